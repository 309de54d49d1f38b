package pinterest.s3sink;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.LongStream;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.connect.errors.ConnectException;
import org.apache.kafka.connect.errors.RetriableException;
import org.apache.kafka.connect.sink.SinkRecord;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Several writers of one key: tasks with the real client of S3, against a bucket that evaluates conditions. */
class ConditionalWritesTest {

  private static final TopicPartition PIN = new TopicPartition("pin", 0);
  private static final long FIRST_LIFE = 1_600_000_000_000L;
  private static final long SECOND_LIFE = 1_700_000_000_000L;

  private final Map<String, String> properties = new HashMap<>();
  private S3Model bucket;

  @BeforeEach
  void start() throws IOException {
    System.setProperty("aws.accessKeyId", "AKIAEXAMPLE");
    System.setProperty("aws.secretAccessKey", "example");
    bucket = new S3Model();
    properties.put("s3.bucket.name", "bucket");
    properties.put("s3.region", "us-east-1");
    properties.put("store.url", bucket.url());
    properties.put("flush.size", "1000");
    properties.put("rotate.schedule.interval.ms", "3000");
  }

  @AfterEach
  void stop() {
    bucket.close();
    System.clearProperty("aws.accessKeyId");
    System.clearProperty("aws.secretAccessKey");
  }

  // --- a task that was thought dead, and a second connector

  @Test
  void aZombiesLateShorterUploadReplacesNothing() throws Exception {
    CountDownLatch zombieSends = new CountDownLatch(1);
    CountDownLatch zombieThaws = new CountDownLatch(1);
    Writer zombie = new Writer();
    zombie.put(records(100, 150));
    bucket.beforeEach(
        request -> {
          bucket.beforeEach(any -> {});
          zombieSends.countDown();
          await(zombieThaws);
        });
    CompletableFuture<Void> late = CompletableFuture.runAsync(zombie::rotate);
    await(zombieSends);

    Writer heir = new Writer();
    heir.put(records(100, 200));
    heir.rotate();
    assertEquals(200, heir.committable());
    zombieThaws.countDown();
    late.get(1, TimeUnit.MINUTES);

    assertEquals(Map.of(key(100), lines(100, 200)), bucket.objects());
    assertEquals(150, zombie.committable());
  }

  @Test
  void aZombieThatTriesAgainForEverReplacesNothing() {
    Writer zombie = new Writer();
    zombie.put(records(100, 150));
    bucket.beforeEach(
        request -> {
          throw new IllegalStateException("the bucket is away");
        });
    assertThrows(RetriableException.class, zombie::rotate);
    bucket.beforeEach(request -> {});
    Writer heir = new Writer();
    heir.put(records(100, 200));
    heir.rotate();
    zombie.put(List.of());
    assertEquals(Map.of(key(100), lines(100, 200)), bucket.objects());
    assertEquals(200, heir.committable());
  }

  @Test
  void aSecondConnectorWithTheSameRecordsTakesNothingAway() {
    Writer first = new Writer();
    first.put(records(0, 30));
    first.rotate();
    Writer second = new Writer();
    second.put(records(0, 10));
    second.rotate();
    assertEquals(Map.of(key(0), lines(0, 30)), bucket.objects());
    second.put(records(10, 40));
    second.rotate();
    assertEquals(Map.of(key(0), lines(0, 30), key(10), lines(10, 40)), bucket.objects());
    assertEquals(List.of(30L, 40L), List.of(first.committable(), second.committable()));
  }

  @Test
  void whatGrowsBetweenLookAndWriteIsLookedAtAgain() {
    Writer first = new Writer();
    first.put(records(0, 10));
    first.rotate();
    Writer second = new Writer();
    second.put(records(0, 20));
    List<String> requests = new ArrayList<>();
    bucket.beforeEach(
        request -> {
          requests.add(request);
          if (requests.size() == 3) {
            bucket.put(key(0), lines(0, 30), null);
          }
        });
    RetriableException again = assertThrows(RetriableException.class, second::rotate);
    assertTrue(again.getMessage().contains("has just been changed"), again.getMessage());
    assertEquals(0, second.committable());
    second.put(List.of());
    assertEquals(
        List.of("PUT", "GET", "PUT", "PUT", "GET"),
        requests.stream().map(each -> each.split(" ")[0]).collect(Collectors.toList()));
    assertEquals(Map.of(key(0), lines(0, 30)), bucket.objects());
    assertEquals(20, second.committable());
  }

  @Test
  void whatIsDeletedBetweenLookAndWriteIsWrittenAgain() {
    bucket.put(key(0), lines(0, 10), null);
    Writer writer = new Writer();
    writer.put(records(0, 20));
    bucket.beforeEach(
        request -> {
          if (request.startsWith("GET")) {
            bucket.delete(key(0));
          }
        });
    assertThrows(RetriableException.class, writer::rotate);
    writer.put(List.of());
    assertEquals(Map.of(key(0), lines(0, 20)), bucket.objects());
    assertEquals(20, writer.committable());
  }

  // --- one task that comes back

  @ParameterizedTest
  @ValueSource(ints = {5, 30, 50})
  void aCrashBetweenUploadAndCommitEndsInTheLongerObject(int recut) {
    Writer killed = new Writer();
    killed.put(records(0, 30));
    killed.rotate();
    Writer restarted = new Writer();
    restarted.put(records(0, recut));
    restarted.rotate();
    assertEquals(Map.of(key(0), lines(0, Math.max(30, recut))), bucket.objects());
    assertEquals(recut, restarted.committable());
  }

  /** Tasks that crash, freeze and thaw, and cut as they like: every committed offset stays in the bucket. */
  @Test
  void whatWasCommittedStaysWhateverOtherTasksDo() {
    for (int seed = 0; seed < 40; seed++) {
      bucket.objects().keySet().forEach(bucket::delete);
      Random random = new Random(seed);
      List<Writer> writers = new ArrayList<>(List.of(new Writer(), new Writer(), new Writer()));
      long committed = 0;
      for (int step = 0; step < 25; step++) {
        int one = random.nextInt(writers.size());
        if (random.nextInt(5) == 0) {
          writers.get(one).task.stop();
          writers.set(one, new Writer());
        }
        Writer writer = writers.get(one);
        long from = writer.next < 0 ? committed : writer.next;
        writer.put(records(from, from + random.nextInt(6)));
        if (random.nextBoolean()) {
          writer.rotate();
        }
        committed = Math.max(committed, writer.next < 0 ? 0 : writer.committable());
        assertEquals(lines(0, committed), linesBelow(committed), "seed " + seed + ", step " + step);
      }
      writers.forEach(writer -> writer.task.stop());
    }
  }

  /** S3 may carry a write out and fail to say so; and it answers 409 to one of two writes at the same moment. */
  @ParameterizedTest
  @ValueSource(ints = {500, 503, 409, 400})
  void aWriteWhoseAnswerIsAnErrorIsFoundStored(int status) {
    Writer writer = new Writer();
    writer.put(records(0, 10));
    bucket.answerNextWriteWith(status);
    try {
      writer.rotate();
    } catch (RetriableException e) {
      assertTrue(status == 409 || status == 400, e.getMessage());
      assertEquals(0, writer.committable());
      writer.put(List.of());
    }
    assertEquals(Map.of(key(0), lines(0, 10)), bucket.objects());
    assertEquals(10, writer.committable());
  }

  // --- another life of the topic, another's objects

  @Test
  void anEarlierTopicsObjectIsLeftAloneAndTheTaskStops() {
    Writer earlier = new Writer(FIRST_LIFE, "old");
    earlier.put(earlier.records(0, 30));
    earlier.rotate();
    Writer anew = new Writer(SECOND_LIFE, "new");
    anew.put(anew.records(0, 30));
    ConnectException stopped = assertThrows(ConnectException.class, anew::rotate);
    assertEquals(
        "s3://bucket/" + key(0) + " holds other records than those read for it, and was left as it is: another"
            + " connector writes here, or the object comes from an earlier topic of this name. Stop the other"
            + " connector, or move the earlier topic's objects away, and restart this task",
        stopped.getMessage());
    assertTrue(!(stopped instanceof RetriableException));
    assertEquals(lines("old", 0, 30), bucket.objects().get(key(0)));
    assertEquals(0, anew.committable());
  }

  /** The emulator sends the same posts whenever it starts anew. */
  @ParameterizedTest
  @ValueSource(ints = {10, 30, 50})
  void anEarlierTopicsObjectWithTheSameValuesIsToldByItsTimestamp(int count) {
    Writer earlier = new Writer(FIRST_LIFE, "same");
    earlier.put(earlier.records(0, 30));
    earlier.rotate();
    Writer anew = new Writer(SECOND_LIFE, "same");
    anew.put(anew.records(0, count));
    assertThrows(ConnectException.class, anew::rotate);
    assertEquals(Map.of(key(0), lines("same", 0, 30)), bucket.objects());
    assertEquals(0, anew.committable());
  }

  @Test
  void anObjectWithoutANotedTimestampIsComparedByItsLines() {
    bucket.put(key(0), lines(0, 10), null);
    Writer writer = new Writer();
    writer.put(records(0, 20));
    writer.rotate();
    assertEquals(Map.of(key(0), lines(0, 20)), bucket.objects());
  }

  @ParameterizedTest
  @ValueSource(strings = {"", "v0", "v0\nv", "\n", "v0\nv2\n", "v0\r\n", "v0\nv1\nv2\nother\nlines\nin\nplace\n"})
  void whatThisSinkDidNotWriteIsLeftAlone(String content) {
    bucket.put(key(0), content, null);
    Writer writer = new Writer();
    writer.put(records(0, 5));
    assertThrows(ConnectException.class, writer::rotate);
    assertEquals(Map.of(key(0), content), bucket.objects());
    assertEquals(0, writer.committable());
  }

  // --- helpers

  /** A task with a clock of its own, that reads one partition. */
  private final class Writer {
    private final S3SinkTask task = new S3SinkTask(S3ObjectStore::new, () -> this.nowMs);
    private final long timestamp;
    private final String text;
    private long nowMs;
    private long next = -1;

    Writer() {
      this(FIRST_LIFE, "v");
    }

    Writer(long timestamp, String text) {
      this.timestamp = timestamp;
      this.text = text;
      task.initialize(new FakeContext());
      task.start(properties);
      task.open(List.of(PIN));
    }

    void put(List<SinkRecord> records) {
      task.put(records);
      next = records.isEmpty() ? next : records.get(records.size() - 1).kafkaOffset() + 1;
    }

    /** Lets the time pass after which an object is closed. */
    void rotate() {
      nowMs += 3000;
      task.put(List.of());
    }

    long committable() {
      return task.preCommit(Map.of()).get(PIN).offset();
    }

    List<SinkRecord> records(long from, long to) {
      return ConditionalWritesTest.records(timestamp, text, from, to);
    }
  }

  private static List<SinkRecord> records(long from, long to) {
    return records(FIRST_LIFE, "v", from, to);
  }

  private static List<SinkRecord> records(long timestamp, String text, long from, long to) {
    List<SinkRecord> records = new ArrayList<>();
    LongStream.range(from, to)
        .forEach(
            offset ->
                records.add(
                    new SinkRecord(
                        "pin", 0, null, null, null, (text + offset).getBytes(StandardCharsets.UTF_8), offset,
                        timestamp + offset, TimestampType.CREATE_TIME)));
    return records;
  }

  private static String lines(long from, long to) {
    return lines("v", from, to);
  }

  private static String lines(String text, long from, long to) {
    StringBuilder lines = new StringBuilder();
    LongStream.range(from, to).forEach(offset -> lines.append(text).append(offset).append('\n'));
    return lines.toString();
  }

  private static String key(long first) {
    return String.format("topics/pin/partition=0/pin+0+%010d.json", first);
  }

  /** What a reader finds below an offset, each one once, a hole as nothing. */
  private String linesBelow(long end) {
    Map<Long, String> found = new HashMap<>();
    bucket
        .objects()
        .forEach(
            (key, content) -> {
              long first = Long.parseLong(key.substring(key.lastIndexOf('+') + 1, key.lastIndexOf('.')));
              String[] lines = content.split("\n");
              IntStream.range(0, lines.length).forEach(i -> found.put(first + i, lines[i] + "\n"));
            });
    StringBuilder lines = new StringBuilder();
    LongStream.range(0, end).forEach(offset -> lines.append(found.getOrDefault(offset, "")));
    return lines.toString();
  }

  private static void await(CountDownLatch latch) {
    try {
      assertTrue(latch.await(1, TimeUnit.MINUTES));
    } catch (InterruptedException e) {
      throw new IllegalStateException(e);
    }
  }
}
