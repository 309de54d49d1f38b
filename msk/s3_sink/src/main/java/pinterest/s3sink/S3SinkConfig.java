package pinterest.s3sink;

import static org.apache.kafka.common.config.ConfigDef.Importance.HIGH;
import static org.apache.kafka.common.config.ConfigDef.Importance.LOW;
import static org.apache.kafka.common.config.ConfigDef.Importance.MEDIUM;

import java.net.URI;
import java.net.URISyntaxException;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.apache.kafka.common.config.AbstractConfig;
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.common.config.ConfigDef.Type;
import org.apache.kafka.common.config.ConfigException;

/** The connector's properties, under the names that Confluent's S3 sink gives them where it has the same. */
final class S3SinkConfig extends AbstractConfig {

  static final String BUCKET = "s3.bucket.name";
  static final String REGION = "s3.region";
  static final String STORE_URL = "store.url";
  static final String TOPICS_DIR = "topics.dir";
  static final String FLUSH_SIZE = "flush.size";
  static final String ROTATE_SCHEDULE_INTERVAL_MS = "rotate.schedule.interval.ms";
  static final String ROTATE_INTERVAL_MS = "rotate.interval.ms";
  static final String ZERO_PAD_WIDTH = "filename.offset.zero.pad.width";
  static final String OBJECT_MAX_BYTES = "object.max.bytes";
  static final String BUFFER_MAX_BYTES = "buffer.max.bytes";
  static final String VALUE_CONVERTER = "value.converter";

  private static final String BYTE_ARRAY_CONVERTER = "org.apache.kafka.connect.converters.ByteArrayConverter";
  private static final int MIB = 1024 * 1024;

  static final ConfigDef DEFINITION =
      new ConfigDef()
          .define(BUCKET, Type.STRING, ConfigDef.NO_DEFAULT_VALUE, notBlank(), HIGH, "The bucket.")
          .define(REGION, Type.STRING, ConfigDef.NO_DEFAULT_VALUE, notBlank(), HIGH, "The bucket's region.")
          .define(
              STORE_URL, Type.STRING, null, url(), LOW,
              "Where an S3-compatible store answers (path style); left out, Amazon S3.")
          .define(TOPICS_DIR, Type.STRING, "topics", folder(), HIGH, "The folder above all topics.")
          .define(
              FLUSH_SIZE, Type.INT, ConfigDef.NO_DEFAULT_VALUE, ConfigDef.Range.atLeast(1), HIGH,
              "An object is closed when it holds this many records.")
          .define(
              ROTATE_SCHEDULE_INTERVAL_MS, Type.LONG, -1L, interval(), MEDIUM,
              "An object is closed this long after its first record was read, by the clock; -1: never.")
          .define(
              ROTATE_INTERVAL_MS, Type.LONG, -1L, interval(), MEDIUM,
              "An object is closed before a record whose timestamp is this much later than its first record's;"
                  + " -1: never. Without new records nothing is closed: see " + ROTATE_SCHEDULE_INTERVAL_MS + ".")
          .define(
              ZERO_PAD_WIDTH, Type.INT, 10, ConfigDef.Range.between(10, 10), LOW,
              "The first offset's digits in an object's name: 10, by which readers find and sort the objects.")
          .define(
              OBJECT_MAX_BYTES, Type.INT, 8 * MIB, ConfigDef.Range.atLeast(1), MEDIUM,
              "An object is closed when it holds this many bytes. It may be larger by its last record.")
          .define(
              BUFFER_MAX_BYTES, Type.LONG, 64L * MIB, ConfigDef.Range.atLeast(1), MEDIUM,
              "When a task's open objects hold more bytes than this, the largest is closed.")
          .define(
              VALUE_CONVERTER, Type.STRING, null, bytesConverter(), HIGH,
              "The worker's converter: values must arrive as they are in Kafka.");

  S3SinkConfig(Map<String, String> properties) {
    super(DEFINITION, properties, false);
  }

  String bucket() {
    return getString(BUCKET);
  }

  String region() {
    return getString(REGION);
  }

  Optional<URI> storeUrl() {
    return Optional.ofNullable(getString(STORE_URL)).filter(text -> !text.isBlank()).map(URI::create);
  }

  String topicsDir() {
    return getString(TOPICS_DIR);
  }

  int flushSize() {
    return getInt(FLUSH_SIZE);
  }

  /** Milliseconds of clock time, or -1. */
  long rotateScheduleIntervalMs() {
    return getLong(ROTATE_SCHEDULE_INTERVAL_MS);
  }

  /** Milliseconds of record time, or -1. */
  long rotateIntervalMs() {
    return getLong(ROTATE_INTERVAL_MS);
  }

  int objectMaxBytes() {
    return getInt(OBJECT_MAX_BYTES);
  }

  long bufferMaxBytes() {
    return getLong(BUFFER_MAX_BYTES);
  }

  private static ConfigDef.Validator notBlank() {
    return validator("not blank", (name, value) -> {
      if (value == null || value.isBlank()) {
        throw new ConfigException(name, value, "must not be blank");
      }
    });
  }

  private static ConfigDef.Validator folder() {
    return validator("a folder without slashes around it", (name, value) -> {
      if (value == null || value.isBlank() || value.startsWith("/") || value.endsWith("/")) {
        throw new ConfigException(name, value, "must be a folder's name without slashes around it");
      }
    });
  }

  private static ConfigDef.Validator url() {
    return validator("http(s)://host:port", (name, value) -> {
      if (value != null && !value.isBlank() && !isHttpUrl(value)) {
        throw new ConfigException(name, value, "must look like http://host:port or https://host");
      }
    });
  }

  private static boolean isHttpUrl(String text) {
    try {
      URI uri = new URI(text);
      return uri.getHost() != null && Set.of("http", "https").contains(uri.getScheme());
    } catch (URISyntaxException e) {
      return false;
    }
  }

  private static ConfigDef.Validator bytesConverter() {
    return validator(BYTE_ARRAY_CONVERTER, (name, value) -> {
      if (value != null && !value.equals(BYTE_ARRAY_CONVERTER)) {
        throw new ConfigException(name, value, "would change the bytes; use " + BYTE_ARRAY_CONVERTER);
      }
    });
  }

  private static ConfigDef.Validator interval() {
    return ConfigDef.LambdaValidator.with(
        (name, value) -> {
          long millis = (Long) value;
          if (millis != -1 && millis < 1) {
            throw new ConfigException(name, value, "must be a number of milliseconds, or -1 for never");
          }
        },
        () -> "-1 or at least 1");
  }

  private interface StringCheck {
    void check(String name, String value);
  }

  private static ConfigDef.Validator validator(String description, StringCheck check) {
    return ConfigDef.LambdaValidator.with(
        (name, value) -> check.check(name, (String) value), () -> description);
  }
}
