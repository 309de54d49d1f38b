package pinterest.s3sink;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/** A store in memory that can be away. */
final class FakeStore implements ObjectStore {

  private final Map<String, String> objects = new TreeMap<>();
  private final List<String> puts = new ArrayList<>();
  private Runnable beforePut = () -> {};
  private boolean away;
  private boolean closed;

  void away(boolean away) {
    this.away = away;
  }

  void beforePut(Runnable action) {
    beforePut = action;
  }

  /** Key to content, sorted by key. */
  Map<String, String> objects() {
    return objects;
  }

  /** The keys in the order in which they were put, failed ones included. */
  List<String> puts() {
    return puts;
  }

  boolean closed() {
    return closed;
  }

  @Override
  public void put(String key, byte[] content, Long firstTimestamp) throws StoreException, OtherRecordsException {
    beforePut.run();
    puts.add(key);
    if (away) {
      throw new StoreException("cannot put " + key + ": the store is away", null);
    }
    String lines = new String(content, StandardCharsets.UTF_8);
    String found = objects.getOrDefault(key, "");
    if (!lines.startsWith(found) && !found.startsWith(lines)) {
      throw new OtherRecordsException(key);
    }
    objects.put(key, found.length() > lines.length() ? found : lines);
  }

  @Override
  public void close() {
    closed = true;
  }
}
