package pinterest.s3sink;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.ServiceLoader;
import java.util.stream.Collectors;
import org.apache.kafka.common.config.ConfigException;
import org.apache.kafka.common.config.ConfigValue;
import org.apache.kafka.connect.sink.SinkConnector;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class S3SinkConnectorTest {

  private static final Map<String, String> GOOD =
      Map.of("s3.bucket.name", "bucket", "s3.region", "us-east-1", "flush.size", "100", "name", "sink");

  @Test
  void connectFindsTheConnectorAsAService() {
    List<Class<?>> found =
        ServiceLoader.load(SinkConnector.class).stream()
            .map(ServiceLoader.Provider::type)
            .collect(Collectors.toList());
    assertEquals(List.of(S3SinkConnector.class), found);
  }

  @Test
  void everyTaskGetsAllProperties() {
    S3SinkConnector connector = new S3SinkConnector();
    connector.start(GOOD);
    assertEquals(List.of(GOOD, GOOD), connector.taskConfigs(2));
    assertEquals(S3SinkTask.class, connector.taskClass());
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "s3.bucket.name | ' ' | must not be blank",
        "s3.region | ' ' | must not be blank",
        "store.url | 127.0.0.1:4566 | must look like http://host:port",
        "store.url | ftp://host | must look like http://host:port",
        "topics.dir | /topics | without slashes",
        "topics.dir | topics/ | without slashes",
        "flush.size | 0 | at least 1",
        "flush.size | many | Not a number",
        "rotate.schedule.interval.ms | 0 | or -1 for never",
        "rotate.interval.ms | -2 | or -1 for never",
        "filename.offset.zero.pad.width | 9 | at least 10",
        "filename.offset.zero.pad.width | 11 | no more than 10",
        "object.max.bytes | 0 | at least 1",
        "buffer.max.bytes | 0 | at least 1",
        "value.converter | org.apache.kafka.connect.json.JsonConverter | ByteArrayConverter",
        "value.converter | org.apache.kafka.connect.storage.StringConverter | ByteArrayConverter",
      })
  void aBadPropertyIsNamed(String name, String value, String message) {
    Map<String, String> properties = new HashMap<>(GOOD);
    properties.put(name, value);
    ConfigException error =
        assertThrows(ConfigException.class, () -> new S3SinkConnector().start(properties));
    assertTrue(error.getMessage().contains(name), error.getMessage());
    assertTrue(error.getMessage().contains(message), error.getMessage());
    // and Connect's validation, which answers whoever creates the connector, says the same
    List<String> validated =
        new S3SinkConnector().validate(properties).configValues().stream()
            .filter(each -> each.name().equals(name))
            .map(ConfigValue::errorMessages)
            .findFirst()
            .orElseThrow();
    assertTrue(validated.get(0).contains(message), validated.toString());
  }

  @ParameterizedTest
  @CsvSource({"s3.bucket.name", "s3.region", "flush.size"})
  void whatIsNeededIsNamed(String name) {
    Map<String, String> properties = new HashMap<>(GOOD);
    properties.remove(name);
    ConfigException error =
        assertThrows(ConfigException.class, () -> new S3SinkConnector().start(properties));
    assertTrue(error.getMessage().contains(name), error.getMessage());
  }

  @Test
  void anEmptyStoreUrlMeansAmazon() {
    Map<String, String> properties = new HashMap<>(GOOD);
    assertTrue(new S3SinkConfig(properties).storeUrl().isEmpty());
    properties.put("store.url", "");
    assertTrue(new S3SinkConfig(properties).storeUrl().isEmpty());
    properties.put("store.url", "http://127.0.0.1:4566");
    assertEquals(4566, new S3SinkConfig(properties).storeUrl().orElseThrow().getPort());
  }
}
