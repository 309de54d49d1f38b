package pinterest.s3sink;

import java.util.ArrayDeque;
import java.util.Deque;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.connect.errors.ConnectException;

/** How far one partition has got: what is buffered, what is on its way to the dead-letter topic, what is safe. */
final class PartitionState {

  private static final long NOTHING_YET = -1;

  private final TopicPartition partition;
  private final Deque<DeadLetter> deadLetters = new ArrayDeque<>();
  private OpenObject open;
  private OpenObject closed;
  private long nextOffset = NOTHING_YET;

  PartitionState(TopicPartition partition) {
    this.partition = partition;
  }

  TopicPartition partition() {
    return partition;
  }

  /** Whether this record, or one after it, was taken before. */
  boolean hasTaken(long offset) {
    return offset < nextOffset;
  }

  void taken(long offset) {
    nextOffset = offset + 1;
  }

  /** The object that takes lines, or null. */
  OpenObject open() {
    return open;
  }

  void open(OpenObject object) {
    open = object;
  }

  /** The object that takes no more lines and is not known to be in the store, or null. */
  OpenObject closed() {
    return closed;
  }

  /** Closes the open object, if there is one. The one closed before must have been stored. */
  void close() {
    if (open != null) {
      if (closed != null) {
        throw new IllegalStateException("an object of " + partition + " is still to be stored");
      }
      closed = open;
      open = null;
    }
  }

  void stored() {
    closed = null;
  }

  void reported(long offset, Future<Void> report) {
    deadLetters.add(new DeadLetter(offset, report));
  }

  /**
   * Forgets the records that the dead-letter topic has.
   *
   * @throws ConnectException when it did not take one
   */
  void checkDeadLetters() {
    while (!deadLetters.isEmpty() && deadLetters.peek().report.isDone()) {
      DeadLetter oldest = deadLetters.peek();
      try {
        oldest.report.get();
      } catch (ExecutionException e) {
        throw new ConnectException(
            "the dead-letter topic did not take the record " + partition + "@" + oldest.offset, e.getCause());
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
        return;
      }
      deadLetters.remove();
    }
  }

  /**
   * Returns the offset to commit, or -1 when there is nothing to commit yet: all before it is in the store or in
   * the dead-letter topic.
   */
  long committable() {
    long safe = nextOffset;
    if (open != null) {
      safe = Math.min(safe, open.firstOffset());
    }
    if (closed != null) {
      safe = Math.min(safe, closed.firstOffset());
    }
    for (DeadLetter each : deadLetters) {
      if (!each.isTaken()) {
        return Math.min(safe, each.offset);
      }
    }
    return safe;
  }

  private static final class DeadLetter {
    private final long offset;
    private final Future<Void> report;

    DeadLetter(long offset, Future<Void> report) {
      this.offset = offset;
      this.report = report;
    }

    boolean isTaken() {
      if (!report.isDone()) {
        return false;
      }
      try {
        report.get();
        return true;
      } catch (ExecutionException e) {
        return false;
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
        return false;
      }
    }
  }
}
