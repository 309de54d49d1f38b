package pinterest.s3sink;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.connect.errors.ConnectException;
import org.apache.kafka.connect.errors.RetriableException;
import org.apache.kafka.connect.sink.SinkRecord;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

class S3SinkTaskTest {

  private static final TopicPartition PIN = new TopicPartition("pin", 0);
  private static final TopicPartition GEO = new TopicPartition("geo", 2);

  private final FakeStore store = new FakeStore();
  private final FakeContext context = new FakeContext();
  private final Map<String, String> properties = new HashMap<>();
  private S3SinkTask task;
  private long nowMs = 1_000_000;

  @BeforeEach
  void properties() {
    properties.put("s3.bucket.name", "bucket");
    properties.put("s3.region", "us-east-1");
    properties.put("flush.size", "3");
  }

  // --- layout

  @Test
  void anObjectHoldsOneValuePerLineUnderTheOffsetOfTheFirst() {
    start(PIN, GEO);
    put(value(PIN, 7, "{\"a\": 1}"), value(PIN, 8, "é😀\r"), value(PIN, 9, ""));
    put(value(GEO, 41, "x"), value(GEO, 42, "y"), value(GEO, 43, "z"));
    assertEquals(
        Map.of(
            "topics/pin/partition=0/pin+0+0000000007.json", "{\"a\": 1}\né😀\r\n\n",
            "topics/geo/partition=2/geo+2+0000000041.json", "x\ny\nz\n"),
        store.objects());
  }

  @Test
  void theFolderIsASetting() {
    properties.put("topics.dir", "raw/kafka");
    properties.put("flush.size", "1");
    start(PIN);
    put(value(PIN, 7, "a"));
    assertEquals(List.of("raw/kafka/pin/partition=0/pin+0+0000000007.json"), store.puts());
  }

  @Test
  void anOffsetThatWouldNotSortStopsTheTask() {
    properties.put("flush.size", "1");
    start(PIN);
    put(value(PIN, 9_999_999_999L, "a"));
    assertEquals(List.of("topics/pin/partition=0/pin+0+9999999999.json"), store.puts());
    ConnectException stopped =
        assertThrows(ConnectException.class, () -> put(value(PIN, 10_000_000_000L, "b")));
    assertEquals(
        "pin-0@10000000000: names of objects hold offsets up to 9999999999, and sort by them. Use topics of another"
            + " name from here on",
        stopped.getMessage());
    assertEquals(10_000_000_000L, committable(PIN));
  }

  // --- when an object is closed

  @Test
  void aGapInOffsetsStartsANewObject() {
    start(PIN);
    put(value(PIN, 1, "a"), value(PIN, 2, "b"), value(PIN, 5, "c"), value(PIN, 6, "d"), value(PIN, 7, "e"));
    assertEquals("a\nb\n", object(PIN, 1));
    assertEquals("c\nd\ne\n", object(PIN, 5));
  }

  @Test
  void anObjectIsClosedWhenItIsOldByTheClock() {
    properties.put("rotate.schedule.interval.ms", "4000");
    start(PIN, GEO);
    put(value(PIN, 1, "a"));
    assertEquals(4000, context.timeoutMs());
    nowMs += 1500;
    put(value(GEO, 1, "b"));
    assertEquals(2500, context.timeoutMs());
    nowMs += 2499;
    put();
    assertEquals(List.of(), store.puts());
    assertEquals(1, context.timeoutMs());
    nowMs += 1;
    put();
    assertEquals("a\n", object(PIN, 1));
    assertEquals(1, store.puts().size());
    assertEquals(1500, context.timeoutMs());
  }

  @Test
  void withoutRotationATailStaysOpen() {
    start(PIN);
    put(value(PIN, 1, "a"));
    nowMs += 1_000_000_000;
    put();
    assertEquals(List.of(), store.puts());
  }

  @Test
  void anObjectSpansNoMoreRecordTimeThanItsInterval() {
    properties.put("rotate.interval.ms", "1000");
    properties.put("flush.size", "100");
    start(PIN);
    put(
        record(PIN, 0, "a", 5000L),
        record(PIN, 1, "b", 5999L),
        record(PIN, 2, "c", 6000L),
        record(PIN, 3, "untimed", null),
        record(PIN, 4, "d", 7000L));
    assertEquals("a\nb\n", object(PIN, 0));
    assertEquals("c\nuntimed\n", object(PIN, 2));
    assertEquals(2, store.puts().size());
  }

  @Test
  void anObjectIsClosedWhenItIsLarge() {
    properties.put("flush.size", "100");
    properties.put("object.max.bytes", "10");
    start(PIN);
    put(value(PIN, 0, "1234"), value(PIN, 1, "123"), value(PIN, 2, "1"), value(PIN, 3, "x"));
    assertEquals("1234\n123\n1\n", object(PIN, 0));
    assertEquals(1, store.puts().size());
  }

  @Test
  void allOpenObjectsTogetherAreBounded() {
    properties.put("flush.size", "100");
    properties.put("buffer.max.bytes", "10");
    start(PIN, GEO);
    put(value(PIN, 0, "12345"), value(GEO, 0, "123"));
    assertEquals(List.of(), store.puts());
    put(value(GEO, 1, ""));
    assertEquals("12345\n", object(PIN, 0));
    assertEquals(1, store.puts().size());
  }

  // --- what cannot be a line

  @Test
  void nullsAndLineBreaksAreSetAsideAndSplitTheObject() {
    start(PIN);
    put(
        value(PIN, 0, "a"),
        record(PIN, 1, null, null),
        value(PIN, 2, "b"),
        value(PIN, 3, "two\nlines"),
        value(PIN, 4, "c\n"),
        value(PIN, 5, "d"),
        value(PIN, 6, "e"),
        value(PIN, 7, "f"));
    assertEquals(List.of(1L, 3L, 4L), context.deadLetters());
    assertEquals("pin-0@1: the value is null", context.faults().get(0));
    assertTrue(context.faults().get(1).startsWith("pin-0@3: the value holds a line break"));
    assertEquals("a\n", object(PIN, 0));
    assertEquals("b\n", object(PIN, 2));
    assertEquals("d\ne\nf\n", object(PIN, 5));
    assertEquals("{\"reason\":\"null_value\",\"raw\":null}\n", object("pin.dead-letters", 0, 1));
    assertEquals(
        "{\"reason\":\"line_break\",\"raw\":\"dHdvCmxpbmVz\"}\n{\"reason\":\"line_break\",\"raw\":\"Ywo=\"}\n",
        object("pin.dead-letters", 0, 3));
    assertEquals(8, committable(PIN));
  }

  @Test
  void whatIsSetAsideIsCommittedOnlyWhenItIsStoredToo() {
    start(PIN);
    put(record(PIN, 4, null, null));
    assertEquals(4, committable(PIN));
    put(value(PIN, 5, "a"));
    assertEquals(5, committable(PIN));
  }

  @Test
  void aRecordIsCommittedOnlyWhenTheDeadLetterTopicHasIt() {
    CompletableFuture<Void> report = new CompletableFuture<>();
    context.reportsAnswer(report);
    start(PIN);
    put(record(PIN, 0, null, null), value(PIN, 1, "a"), value(PIN, 2, "b"), value(PIN, 3, "c"));
    assertEquals(0, committable(PIN));
    report.complete(null);
    assertEquals(4, committable(PIN));
  }

  @Test
  void aDeadLetterTopicThatRefusesStopsTheTaskAndCommitsNothing() {
    CompletableFuture<Void> report = new CompletableFuture<>();
    context.reportsAnswer(report);
    start(PIN);
    put(record(PIN, 5, null, null));
    report.completeExceptionally(new IllegalStateException("too large"));
    assertEquals(5, committable(PIN));
    ConnectException stopped = assertThrows(ConnectException.class, () -> put(value(PIN, 6, "a")));
    assertEquals("the dead-letter topic did not take the record pin-0@5", stopped.getMessage());
    assertEquals(5, committable(PIN));
  }

  @Test
  void withoutADeadLetterTopicTheErrorSaysWhatToSet() {
    context.reporter(null);
    start(PIN);
    ConnectException stopped =
        assertThrows(ConnectException.class, () -> put(value(PIN, 0, "a"), value(PIN, 1, "b\n")));
    assertTrue(stopped.getMessage().startsWith("pin-0@1: the value holds a line break"), stopped.getMessage());
    assertTrue(stopped.getMessage().contains("errors.deadletterqueue.topic.name"), stopped.getMessage());
    assertEquals(1, committable(PIN));
  }

  @Test
  void withoutToleranceTheErrorSaysWhatToSet() {
    context.reporter(
        (record, error) -> {
          throw new ConnectException("Tolerance exceeded in error handler", error);
        });
    start(PIN);
    ConnectException stopped = assertThrows(ConnectException.class, () -> put(record(PIN, 0, null, null)));
    assertTrue(stopped.getMessage().contains("errors.tolerance"), stopped.getMessage());
  }

  @Test
  void aValueThatIsNoBytesStopsTheTaskAndNamesTheConverter() {
    start(PIN);
    ConnectException stopped =
        assertThrows(
            ConnectException.class,
            () -> put(new SinkRecord("pin", 0, null, null, null, Map.of("a", 1), 0)));
    assertTrue(stopped.getMessage().contains("value.converter"), stopped.getMessage());
    assertTrue(stopped.getMessage().startsWith("the value of pin-0@0"), stopped.getMessage());
    assertEquals(List.of(), context.deadLetters());
  }

  /** StringConverter would have made U+FFFD of what is no UTF-8. */
  @Test
  void aTextStopsTheTaskAndNamesTheConverter() {
    start(PIN);
    ConnectException stopped =
        assertThrows(ConnectException.class, () -> put(bytesRecord(PIN, 0, "text", null)));
    assertTrue(stopped.getMessage().startsWith("the value of pin-0@0 is a java.lang.String"), stopped.getMessage());
    assertEquals(List.of(), store.puts());
  }

  @Test
  void aRenamedTopicStopsTheTask() {
    start(PIN);
    ConnectException stopped = assertThrows(ConnectException.class, () -> put(value(GEO, 0, "a")));
    assertTrue(stopped.getMessage().contains("geo-2"), stopped.getMessage());
  }

  // --- commits

  @Test
  void onlyStoredOffsetsAreCommitted() {
    start(PIN, GEO);
    assertEquals(Map.of(), task.preCommit(Map.of()));
    put(value(PIN, 10, "a"), value(PIN, 11, "b"));
    assertEquals(10, committable(PIN));
    put(value(PIN, 12, "c"), value(PIN, 13, "d"));
    assertEquals(13, committable(PIN));
    assertTrue(!task.preCommit(Map.of()).containsKey(GEO));
  }

  // --- the store is away

  @Test
  void aStoreThatIsAwayIsTriedForEverAndNothingIsLostOrDoubled() {
    start(PIN);
    List<SinkRecord> batch =
        List.of(
            value(PIN, 0, "a"), value(PIN, 1, "b"), value(PIN, 2, "c"), record(PIN, 3, null, null), value(PIN, 4, "d"));
    store.away(true);
    long longest = 0;
    for (int i = 0; i < 20; i++) {
      assertThrows(RetriableException.class, () -> task.put(batch));
      longest = Math.max(longest, context.timeoutMs());
      assertEquals(0, committable(PIN));
    }
    assertEquals(5000, longest);
    assertEquals(List.of(), context.deadLetters());
    store.away(false);
    task.put(batch);
    put(value(PIN, 5, "e"), value(PIN, 6, "f"));
    assertEquals(List.of(3L), context.deadLetters());
    assertEquals("{\"reason\":\"null_value\",\"raw\":null}\n", object("pin.dead-letters", 0, 3));
    assertEquals("a\nb\nc\n", object(PIN, 0));
    assertEquals("d\ne\nf\n", object(PIN, 4));
    assertEquals(7, committable(PIN));
  }

  @Test
  void anOldObjectIsTriedAgainWithoutNewRecords() {
    properties.put("rotate.schedule.interval.ms", "1000");
    start(PIN);
    put(value(PIN, 0, "a"));
    nowMs += 1000;
    store.away(true);
    RetriableException retry = assertThrows(RetriableException.class, () -> put());
    assertTrue(retry.getMessage().contains("pin+0+0000000000.json"), retry.getMessage());
    assertTrue(retry.getMessage().contains("trying again in"), retry.getMessage());
    store.away(false);
    put();
    assertEquals("a\n", object(PIN, 0));
    assertEquals(1, committable(PIN));
  }

  @Test
  void oneTopicsObjectThatIsNotTakenHoldsUpAllOfTheTaskAndLosesNothing() {
    start(PIN, GEO);
    store.beforePut(() -> store.away(store.objects().isEmpty()));
    List<SinkRecord> batch =
        List.of(value(GEO, 0, "x"), value(PIN, 0, "a"), value(PIN, 1, "b"), value(PIN, 2, "c"), value(GEO, 1, "y"));
    assertThrows(RetriableException.class, () -> task.put(batch));
    assertEquals(List.of(0L, 0L), List.of(committable(PIN), committable(GEO)));
    store.beforePut(() -> {});
    store.away(false);
    task.put(batch);
    put(value(GEO, 2, "z"));
    assertEquals(List.of("a\nb\nc\n", "x\ny\nz\n"), List.of(object(PIN, 0), object(GEO, 0)));
    assertEquals(List.of(3L, 3L), List.of(committable(PIN), committable(GEO)));
  }

  // --- no put() takes longer than the consumer's group allows

  @Test
  void aPutOfManyUploadsIsCutShortAndGoesOnWhereItWas() {
    start(PIN);
    List<SinkRecord> batch = new ArrayList<>();
    for (long offset = 0; offset < 100; offset++) {
      batch.add(offset % 2 == 0 ? value(PIN, offset, "v" + offset) : record(PIN, offset, null, null));
    }
    store.beforePut(() -> nowMs += 7_000);
    List<Long> tookMs = new ArrayList<>();
    boolean done = false;
    while (!done) {
      long since = nowMs;
      try {
        task.put(batch);
        done = true;
      } catch (RetriableException e) {
        assertEquals("storing these records has taken 63000 ms so far; going on after a poll", e.getMessage());
        assertEquals(1, context.timeoutMs());
      }
      tookMs.add(nowMs - since);
    }
    assertEquals(Collections.nCopies(11, 63_000L), tookMs);
    assertEquals(99, store.puts().size());
    assertEquals(100, linesByOffset(store).size() + 1);
    assertEquals(50, context.deadLetters().size());
    assertEquals(99, committable(PIN));
  }

  @Test
  void aDeadLetterTopicThatIsSlowToTakeRecordsCutsThePutShortToo() {
    start(PIN);
    List<Long> reported = new ArrayList<>();
    context.reporter(
        (record, error) -> {
          reported.add(record.kafkaOffset());
          nowMs += 60_000;
          return CompletableFuture.completedFuture(null);
        });
    List<SinkRecord> batch = List.of(record(PIN, 0, null, null), record(PIN, 1, null, null));
    assertThrows(RetriableException.class, () -> task.put(batch));
    assertEquals(List.of(0L), reported);
    task.put(batch);
    assertEquals(List.of(0L, 1L), reported);
  }

  /** Random batches, gaps, faults, clocks and outages, against the one sentence that matters. */
  @Test
  void whateverHappensEachOffsetIsInOneLineAndEachFaultIsSetAsideOnce() {
    for (int seed = 0; seed < 300; seed++) {
      Random random = new Random(seed);
      FakeStore store = new FakeStore();
      FakeContext context = new FakeContext();
      properties.put("flush.size", Integer.toString(1 + random.nextInt(5)));
      properties.put("rotate.schedule.interval.ms", "100");
      S3SinkTask task = start(store, context, PIN);
      Map<Long, String> sent = new TreeMap<>();
      List<Long> faulty = new ArrayList<>();
      long offset = random.nextInt(3);
      for (int round = 0; round < 30; round++) {
        List<SinkRecord> batch = new ArrayList<>();
        for (int i = random.nextInt(6); i > 0; i--, offset += random.nextInt(8) == 0 ? 2 : 1) {
          if (random.nextInt(6) == 0) {
            faulty.add(offset);
            batch.add(random.nextBoolean() ? record(PIN, offset, null, null) : value(PIN, offset, "x\ny"));
            sent.put(offset, "{");
          } else {
            sent.put(offset, "v" + offset);
            batch.add(value(PIN, offset, "v" + offset));
          }
        }
        nowMs += random.nextInt(60);
        deliver(task, store, batch, random);
      }
      nowMs += 100;
      store.away(false);
      task.put(List.of());
      assertEquals(sent, linesByOffset(store), "seed " + seed);
      assertEquals(faulty, context.deadLetters(), "seed " + seed);
      assertEquals(Map.of(PIN, new OffsetAndMetadata(lastOf(sent, faulty) + 1)), task.preCommit(Map.of()));
    }
  }

  private static void deliver(S3SinkTask task, FakeStore store, List<SinkRecord> batch, Random random) {
    for (int attempt = 0; ; attempt++) {
      store.away(attempt < 3 && random.nextInt(3) == 0);
      try {
        task.put(batch);
        return;
      } catch (RetriableException e) {
        // the worker delivers the same batch again
      }
    }
  }

  private static Map<Long, String> linesByOffset(FakeStore store) {
    Map<Long, String> lines = new TreeMap<>();
    store.objects().forEach((key, content) -> {
      long offset = Long.parseLong(key.substring(key.lastIndexOf('+') + 1, key.lastIndexOf('.')));
      for (String line : content.split("\n")) {
        // an envelope is told from a value by its first letter, and lies in a folder of its own
        assertEquals(key.contains(".dead-letters/"), line.startsWith("{"), key);
        assertEquals(null, lines.put(offset++, line.startsWith("{") ? "{" : line), key);
      }
    });
    return lines;
  }

  private static long lastOf(Map<Long, String> sent, List<Long> faulty) {
    long last = sent.keySet().stream().mapToLong(Long::longValue).max().orElse(-1);
    return Math.max(last, faulty.isEmpty() ? -1 : faulty.get(faulty.size() - 1));
  }

  // --- rebalances, restarts, new topics

  @Test
  void aRebalanceDropsWhatIsBufferedAndTheReplayBringsItBack() {
    start(PIN);
    put(value(PIN, 0, "a"), value(PIN, 1, "b"));
    assertEquals(0, committable(PIN));
    task.close(List.of(PIN));
    assertEquals(Map.of(), task.preCommit(Map.of()));
    task.open(List.of(PIN));
    put(value(PIN, 0, "a"), value(PIN, 1, "b"), value(PIN, 2, "c"));
    assertEquals(Map.of("topics/pin/partition=0/pin+0+0000000000.json", "a\nb\nc\n"), store.objects());
  }

  @Test
  void aRebalanceThatMovesOnePartitionLeavesTheOthersAlone() {
    start(PIN, GEO);
    put(value(PIN, 0, "a"), value(GEO, 0, "x"));
    task.close(List.of(GEO));
    task.open(List.of());
    put(value(PIN, 1, "b"), value(PIN, 2, "c"));
    assertEquals(Map.of("topics/pin/partition=0/pin+0+0000000000.json", "a\nb\nc\n"), store.objects());
    assertEquals(Map.of(PIN, new OffsetAndMetadata(3)), task.preCommit(Map.of()));
  }

  @Test
  void aReplayAfterAKillOverlapsWithTheSameLinesAndShortensNothing() {
    start(PIN);
    put(value(PIN, 0, "a"), value(PIN, 1, "b"), value(PIN, 2, "c"));
    properties.put("flush.size", "2");
    start(PIN);
    put(value(PIN, 0, "a"), value(PIN, 1, "b"), value(PIN, 2, "c"), value(PIN, 3, "d"));
    assertEquals("a\nb\nc\n", object(PIN, 0));
    assertEquals("c\nd\n", object(PIN, 2));
  }

  @Test
  void aTopicThatWasMadeAnewIsReadFromItsStart() {
    start(PIN);
    put(value(PIN, 8, "old"));
    put(value(PIN, 0, "new"), value(PIN, 1, "b"), value(PIN, 2, "c"));
    assertEquals("old\n", object(PIN, 8));
    assertEquals("new\nb\nc\n", object(PIN, 0));
  }

  @Test
  void stoppingClosesTheStore() {
    start(PIN);
    task.stop();
    assertTrue(store.closed());
    new S3SinkTask().stop();
  }

  // --- helpers

  private void start(TopicPartition... assigned) {
    task = start(store, context, assigned);
  }

  private S3SinkTask start(FakeStore store, FakeContext context, TopicPartition... assigned) {
    S3SinkTask started = new S3SinkTask(config -> store, () -> nowMs);
    started.initialize(context);
    started.start(properties);
    started.open(List.of(assigned));
    return started;
  }

  private void put(SinkRecord... records) {
    task.put(List.of(records));
  }

  private static SinkRecord value(TopicPartition partition, long offset, String value) {
    return bytesRecord(partition, offset, value.getBytes(StandardCharsets.UTF_8), null);
  }

  private static SinkRecord record(TopicPartition partition, long offset, String value, Long timestamp) {
    return bytesRecord(
        partition, offset, value == null ? null : value.getBytes(StandardCharsets.UTF_8), timestamp);
  }

  private static SinkRecord bytesRecord(TopicPartition partition, long offset, Object value, Long timestamp) {
    return new SinkRecord(
        partition.topic(), partition.partition(), null, null, null, value, offset, timestamp,
        timestamp == null ? TimestampType.NO_TIMESTAMP_TYPE : TimestampType.CREATE_TIME);
  }

  private String object(TopicPartition partition, long firstOffset) {
    return object(partition.topic(), partition.partition(), firstOffset);
  }

  private String object(String folder, int partition, long firstOffset) {
    return store
        .objects()
        .get(String.format("topics/%1$s/partition=%2$d/%1$s+%2$d+%3$010d.json", folder, partition, firstOffset));
  }

  private long committable(TopicPartition partition) {
    return task.preCommit(Map.of()).get(partition).offset();
  }
}
