package pinterest.s3sink;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import pinterest.s3sink.ObjectStore.OtherRecordsException;
import pinterest.s3sink.ObjectStore.StoreException;

/** The real S3 client against a server on this machine. */
class S3ObjectStoreTest {

  private static final byte[] CONTENT = "{\"a\": \"é\"}\n".getBytes(StandardCharsets.UTF_8);
  private static final String KEY = "topics/a.pin/partition=0/a.pin+0+0000000000.json";

  private static final int HANG_UP = 0;

  private HttpServer server;
  private volatile int status = 200;
  private volatile HttpExchange last;
  private volatile byte[] received;

  @BeforeEach
  void start() throws IOException {
    System.setProperty("aws.accessKeyId", "AKIAEXAMPLE");
    System.setProperty("aws.secretAccessKey", "example");
    server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
    server.createContext("/", this::answer);
    server.start();
  }

  @AfterEach
  void stop() {
    server.stop(0);
    System.clearProperty("aws.accessKeyId");
    System.clearProperty("aws.secretAccessKey");
  }

  private void answer(HttpExchange exchange) throws IOException {
    received = exchange.getRequestBody().readAllBytes();
    last = exchange;
    if (status != HANG_UP) {
      exchange.sendResponseHeaders(status, -1);
    }
    exchange.close();
  }

  private ObjectStore store() {
    String url = "http://127.0.0.1:" + server.getAddress().getPort();
    return new S3ObjectStore(
        new S3SinkConfig(
            Map.of("s3.bucket.name", "bucket", "s3.region", "eu-west-1", "flush.size", "1", "store.url", url)));
  }

  @Test
  void anObjectIsPutSignedWithItsChecksumUnderThePathOfItsKey() throws StoreException, OtherRecordsException {
    try (ObjectStore store = store()) {
      store.put(KEY, CONTENT, 1_600_000_000_000L);
    }
    assertEquals("PUT", last.getRequestMethod());
    assertEquals(
        "/bucket/topics/a.pin/partition%3D0/a.pin%2B0%2B0000000000.json", last.getRequestURI().getRawPath());
    assertArrayEquals(CONTENT, received);
    String authorization = last.getRequestHeaders().getFirst("Authorization");
    assertTrue(authorization.startsWith("AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/"), authorization);
    assertTrue(authorization.contains("/eu-west-1/s3/aws4_request"), authorization);
    assertEquals("*", last.getRequestHeaders().getFirst("If-None-Match"));
    assertEquals("1600000000000", last.getRequestHeaders().getFirst("x-amz-meta-first-timestamp"));
    assertEquals("LFB6Uw==", last.getRequestHeaders().getFirst("x-amz-checksum-crc32"));
  }

  @Test
  void anObjectNotesHowManyRecordsItHolds() throws StoreException, OtherRecordsException {
    try (ObjectStore store = store()) {
      store.put(KEY, "1\n\n3\n".getBytes(StandardCharsets.UTF_8), null);
    }
    assertEquals("3", last.getRequestHeaders().getFirst("x-amz-meta-records"));
  }

  @Test
  void aStoreThatSaysNoIsAStoreException() {
    status = 403;
    try (ObjectStore store = store()) {
      StoreException error = assertThrows(StoreException.class, () -> store.put(KEY, CONTENT, 1_600_000_000_000L));
      assertTrue(error.getMessage().startsWith("cannot put s3://bucket/" + KEY), error.getMessage());
    }
  }

  @Test
  void aStoreThatHangsUpIsAStoreException() {
    status = HANG_UP;
    try (ObjectStore store = store()) {
      assertThrows(StoreException.class, () -> store.put(KEY, CONTENT, 1_600_000_000_000L));
    }
  }

  @Test
  void aStoreThatIsAwayIsAStoreException() {
    try (ObjectStore store = store()) {
      server.stop(0);
      assertThrows(StoreException.class, () -> store.put(KEY, CONTENT, 1_600_000_000_000L));
    }
  }
}
