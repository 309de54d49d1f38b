package pinterest.s3sink;

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.function.Consumer;

/** One bucket of S3 as the real client speaks to it: PUT with If-None-Match and If-Match, and GET. */
final class S3Model implements AutoCloseable {

  private static final String TIMESTAMP = "x-amz-meta-first-timestamp";

  private final Map<String, Stored> objects = new TreeMap<>();
  private final ExecutorService threads = Executors.newCachedThreadPool();
  private final HttpServer server;
  private Consumer<String> beforeEach = request -> {};
  private int statusAfterWrite;
  private int versions;

  S3Model() throws IOException {
    server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
    server.createContext("/", this::answer);
    server.setExecutor(threads);
    server.start();
  }

  String url() {
    return "http://127.0.0.1:" + server.getAddress().getPort();
  }

  /** Runs something when a request has come whole and is not yet carried out; it gets "PUT pin+0+0000000000.json". */
  void beforeEach(Consumer<String> action) {
    beforeEach = action;
  }

  /** Answers the next write with another status than it deserves, once it is carried out. */
  void answerNextWriteWith(int status) {
    statusAfterWrite = status;
  }

  /** Key to content, sorted by key. */
  synchronized Map<String, String> objects() {
    Map<String, String> contents = new TreeMap<>();
    objects.forEach((key, stored) -> contents.put(key, stored.content));
    return contents;
  }

  /** Puts an object as somebody else would: unconditionally. */
  synchronized void put(String key, String content, String firstTimestamp) {
    objects.put(key, new Stored(content, "\"" + versions++ + "\"", firstTimestamp));
  }

  synchronized void delete(String key) {
    objects.remove(key);
  }

  private void answer(HttpExchange exchange) throws IOException {
    String body = new String(exchange.getRequestBody().readAllBytes(), StandardCharsets.UTF_8);
    String key = exchange.getRequestURI().getPath().substring("/bucket/".length());
    beforeEach.accept(exchange.getRequestMethod() + key.substring(key.lastIndexOf('/')).replace('/', ' '));
    if (exchange.getRequestMethod().equals("PUT")) {
      int deserved = write(exchange, key, body);
      int status = statusAfterWrite == 0 ? deserved : statusAfterWrite;
      statusAfterWrite = 0;
      exchange.sendResponseHeaders(status, -1);
    } else {
      read(exchange, key);
    }
    exchange.close();
  }

  private synchronized int write(HttpExchange exchange, String key, String body) {
    Stored found = objects.get(key);
    String mustMatch = exchange.getRequestHeaders().getFirst("If-Match");
    if (exchange.getRequestHeaders().containsKey("If-None-Match") && found != null) {
      return 412;
    }
    if (mustMatch != null && (found == null || !mustMatch.equals(found.tag))) {
      return found == null ? 404 : 412;
    }
    put(key, body, exchange.getRequestHeaders().getFirst(TIMESTAMP));
    return 200;
  }

  private void read(HttpExchange exchange, String key) throws IOException {
    Stored found;
    synchronized (this) {
      found = objects.get(key);
    }
    if (found == null) {
      exchange.sendResponseHeaders(404, -1);
      return;
    }
    byte[] content = found.content.getBytes(StandardCharsets.UTF_8);
    exchange.getResponseHeaders().set("ETag", found.tag);
    if (found.firstTimestamp != null) {
      exchange.getResponseHeaders().set(TIMESTAMP, found.firstTimestamp);
    }
    exchange.sendResponseHeaders(200, content.length == 0 ? -1 : content.length);
    try {
      exchange.getResponseBody().write(content);
    } catch (IOException e) {
      // the client has read as much as it wanted
    }
  }

  @Override
  public void close() {
    server.stop(0);
    threads.shutdownNow();
  }

  private static final class Stored {
    private final String content;
    private final String tag;
    private final String firstTimestamp;

    Stored(String content, String tag, String firstTimestamp) {
      this.content = content;
      this.tag = tag;
      this.firstTimestamp = firstTimestamp;
    }
  }
}
