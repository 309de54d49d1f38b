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
  private boolean away;
  private boolean closed;

  void away(boolean away) {
    this.away = away;
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
  public void put(String key, byte[] content) throws StoreException {
    puts.add(key);
    if (away) {
      throw new StoreException("cannot put " + key + ": the store is away", null);
    }
    objects.put(key, new String(content, StandardCharsets.UTF_8));
  }

  @Override
  public void close() {
    closed = true;
  }
}
