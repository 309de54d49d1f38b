package pinterest.s3sink;

import java.util.Collections;
import java.util.List;
import java.util.Map;
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.connect.connector.Task;
import org.apache.kafka.connect.sink.SinkConnector;

/** Writes the values of topics to S3, byte for byte, one a line. */
public final class S3SinkConnector extends SinkConnector {

  private Map<String, String> properties = Map.of();

  @Override
  public void start(Map<String, String> properties) {
    this.properties = new S3SinkConfig(properties).originalsStrings();
  }

  @Override
  public Class<? extends Task> taskClass() {
    return S3SinkTask.class;
  }

  @Override
  public List<Map<String, String>> taskConfigs(int maxTasks) {
    return Collections.nCopies(maxTasks, properties);
  }

  @Override
  public void stop() {
    // nothing is held
  }

  @Override
  public ConfigDef config() {
    return S3SinkConfig.DEFINITION;
  }

  @Override
  public String version() {
    return Version.TEXT;
  }
}
