package pinterest.s3sink;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.connect.sink.ErrantRecordReporter;
import org.apache.kafka.connect.sink.SinkRecord;
import org.apache.kafka.connect.sink.SinkTaskContext;

/** What the worker offers a task: here, a dead-letter topic and the wish to be called again. */
final class FakeContext implements SinkTaskContext {

  private final List<Long> deadLetters = new ArrayList<>();
  private final List<String> faults = new ArrayList<>();
  private CompletableFuture<Void> report = CompletableFuture.completedFuture(null);
  private ErrantRecordReporter reporter = this::report;
  private long timeoutMs = -1;

  /** Offsets that were set aside. */
  List<Long> deadLetters() {
    return deadLetters;
  }

  List<String> faults() {
    return faults;
  }

  /** What the next reports answer. */
  void reportsAnswer(CompletableFuture<Void> future) {
    report = future;
  }

  void reporter(ErrantRecordReporter other) {
    reporter = other;
  }

  /** The last wish to be called again, in milliseconds; -1 for none. */
  long timeoutMs() {
    return timeoutMs;
  }

  private CompletableFuture<Void> report(SinkRecord record, Throwable error) {
    deadLetters.add(record.kafkaOffset());
    faults.add(error.getMessage());
    return report;
  }

  @Override
  public ErrantRecordReporter errantRecordReporter() {
    return reporter;
  }

  @Override
  public void timeout(long timeoutMs) {
    this.timeoutMs = timeoutMs;
  }

  @Override
  public Map<String, String> configs() {
    return Map.of();
  }

  @Override
  public void offset(Map<TopicPartition, Long> offsets) {
    throw new UnsupportedOperationException();
  }

  @Override
  public void offset(TopicPartition tp, long offset) {
    throw new UnsupportedOperationException();
  }

  @Override
  public Set<TopicPartition> assignment() {
    return Set.of();
  }

  @Override
  public void pause(TopicPartition... partitions) {
    throw new UnsupportedOperationException();
  }

  @Override
  public void resume(TopicPartition... partitions) {
    throw new UnsupportedOperationException();
  }

  @Override
  public void requestCommit() {
    throw new UnsupportedOperationException();
  }
}
