package pinterest.s3sink;

import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.Base64;
import java.util.Map;
import java.util.stream.IntStream;
import java.util.zip.CRC32;
import software.amazon.awssdk.auth.credentials.DefaultCredentialsProvider;
import software.amazon.awssdk.core.client.config.ClientOverrideConfiguration;
import software.amazon.awssdk.core.sync.RequestBody;
import software.amazon.awssdk.http.urlconnection.UrlConnectionHttpClient;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.s3.S3Client;
import software.amazon.awssdk.services.s3.S3ClientBuilder;

/** Objects in one S3 bucket, with the credentials of the machine (environment, profile file, container, instance). */
final class S3ObjectStore implements ObjectStore {

  // A put() of the task must end long before Kafka takes the task for dead (max.poll.interval.ms, 5 minutes).
  private static final Duration CONNECT_TIMEOUT = Duration.ofSeconds(3);
  private static final Duration SOCKET_TIMEOUT = Duration.ofSeconds(15);
  private static final Duration CALL_TIMEOUT = Duration.ofSeconds(30);

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

  @Override
  public void put(String key, byte[] content) throws StoreException {
    try {
      client.putObject(
          request ->
              request
                  .bucket(bucket)
                  .key(key)
                  .contentType("application/x-ndjson")
                  .metadata(Map.of(RECORDS, Long.toString(lines(content))))
                  .checksumCRC32(crc32(content)),
          RequestBody.fromBytes(content));
    } catch (RuntimeException e) {
      // Not only SdkException: a connection that breaks half-way comes as an UncheckedIOException.
      throw new StoreException("cannot put s3://" + bucket + "/" + key + ": " + e.getMessage(), e);
    }
  }

  private static long lines(byte[] content) {
    return IntStream.range(0, content.length).filter(index -> content[index] == '\n').count();
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
