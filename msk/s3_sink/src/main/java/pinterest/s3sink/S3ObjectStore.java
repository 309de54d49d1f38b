package pinterest.s3sink;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.Arrays;
import java.util.Base64;
import java.util.HashMap;
import java.util.Map;
import java.util.function.Consumer;
import java.util.stream.IntStream;
import java.util.zip.CRC32;
import software.amazon.awssdk.auth.credentials.DefaultCredentialsProvider;
import software.amazon.awssdk.core.ResponseInputStream;
import software.amazon.awssdk.core.client.config.ClientOverrideConfiguration;
import software.amazon.awssdk.core.sync.RequestBody;
import software.amazon.awssdk.http.urlconnection.UrlConnectionHttpClient;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.s3.S3Client;
import software.amazon.awssdk.services.s3.S3ClientBuilder;
import software.amazon.awssdk.services.s3.model.GetObjectResponse;
import software.amazon.awssdk.services.s3.model.PutObjectRequest;
import software.amazon.awssdk.services.s3.model.S3Exception;

/** Objects in one S3 bucket, with the credentials of the machine (environment, profile file, container, instance). */
final class S3ObjectStore implements ObjectStore {

  // A put() of the task must end long before Kafka takes the task for dead (max.poll.interval.ms, 5 minutes).
  private static final Duration CONNECT_TIMEOUT = Duration.ofSeconds(3);
  private static final Duration SOCKET_TIMEOUT = Duration.ofSeconds(15);
  private static final Duration CALL_TIMEOUT = Duration.ofSeconds(30);
  private static final int PRECONDITION_FAILED = 412;
  private static final String FIRST_TIMESTAMP = "first-timestamp";

  // Whoever only counts records need not download them.
  private static final String RECORDS = "records";

  private final String bucket;
  private final S3Client client;

  S3ObjectStore(S3SinkConfig config) {
    bucket = config.bucket();
    S3ClientBuilder builder =
        S3Client.builder()
            .region(Region.of(config.region()))
            .credentialsProvider(DefaultCredentialsProvider.create())
            .httpClientBuilder(
                UrlConnectionHttpClient.builder()
                    .connectionTimeout(CONNECT_TIMEOUT)
                    .socketTimeout(SOCKET_TIMEOUT))
            .serviceConfiguration(service -> service.chunkedEncodingEnabled(false))
            .overrideConfiguration(
                ClientOverrideConfiguration.builder().apiCallTimeout(CALL_TIMEOUT).build());
    config.storeUrl().ifPresent(url -> builder.endpointOverride(url).forcePathStyle(true));
    client = builder.build();
  }

  // The writer of a key may be a task that was thought dead, so that every write is on condition.
  @Override
  public void put(String key, byte[] content, Long firstTimestamp) throws StoreException, OtherRecordsException {
    try {
      if (!write(key, content, firstTimestamp, request -> request.ifNoneMatch("*"))) {
        extend(key, content, firstTimestamp);
      }
    } catch (IOException | RuntimeException e) {
      // Not only SdkException: a connection that breaks half-way comes as an UncheckedIOException.
      throw new StoreException("cannot put " + address(key) + ": " + e.getMessage(), e);
    }
  }

  private void extend(String key, byte[] content, Long firstTimestamp)
      throws IOException, StoreException, OtherRecordsException {
    byte[] start;
    GetObjectResponse found;
    try (ResponseInputStream<GetObjectResponse> body =
        client.getObject(request -> request.bucket(bucket).key(key))) {
      found = body.response();
      start = body.readNBytes(content.length);
      body.abort();
    }
    if (!isStartOf(content, start) || isOfAnotherRecord(found, firstTimestamp)) {
      throw new OtherRecordsException(address(key));
    }
    if (start.length < content.length
        && !write(key, content, firstTimestamp, request -> request.ifMatch(found.eTag()))) {
      throw new StoreException("cannot extend " + address(key) + ": it has just been changed", null);
    }
  }

  /** Whether an object of this sink begins so: whole lines, and at least one. */
  private static boolean isStartOf(byte[] content, byte[] start) {
    return start.length > 0
        && start[start.length - 1] == '\n'
        && Arrays.equals(content, 0, start.length, start, 0, start.length);
  }

  // A topic that is made anew may begin with the same values: then only the timestamp tells its records apart.
  private static boolean isOfAnotherRecord(GetObjectResponse found, Long firstTimestamp) {
    String noted = found.metadata().get(FIRST_TIMESTAMP);
    return noted != null && firstTimestamp != null && !noted.equals(firstTimestamp.toString());
  }

  /** Returns whether the condition held; the object is stored then. */
  private boolean write(
      String key, byte[] content, Long firstTimestamp, Consumer<PutObjectRequest.Builder> condition) {
    try {
      client.putObject(
          request ->
              request
                  .bucket(bucket)
                  .key(key)
                  .contentType("application/x-ndjson")
                  .metadata(metadata(content, firstTimestamp))
                  .checksumCRC32(crc32(content))
                  .applyMutation(condition),
          RequestBody.fromBytes(content));
      return true;
    } catch (S3Exception e) {
      if (e.statusCode() == PRECONDITION_FAILED) {
        return false;
      }
      throw e;
    }
  }

  private String address(String key) {
    return "s3://" + bucket + "/" + key;
  }

  private static Map<String, String> metadata(byte[] content, Long firstTimestamp) {
    Map<String, String> metadata = new HashMap<>();
    metadata.put(RECORDS, Long.toString(IntStream.range(0, content.length).filter(i -> content[i] == '\n').count()));
    if (firstTimestamp != null) {
      metadata.put(FIRST_TIMESTAMP, firstTimestamp.toString());
    }
    return metadata;
  }

  /** S3 compares this with what arrived. */
  private static String crc32(byte[] content) {
    CRC32 crc = new CRC32();
    crc.update(content);
    byte[] bytes = ByteBuffer.allocate(Integer.BYTES).putInt((int) crc.getValue()).array();
    return Base64.getEncoder().encodeToString(bytes);
  }

  @Override
  public void close() {
    client.close();
  }
}
