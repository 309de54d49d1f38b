package pinterest.databricks;

import io.delta.storage.HadoopFileSystemLogStore;
import java.io.BufferedWriter;
import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.Iterator;
import java.util.UUID;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.Path;

/**
 * Delta's log on a local disk, for several drivers: a commit is written beside its place and linked into it, which
 * the system refuses when the place is taken. The stores that come with Delta look first and rename then, so that
 * of two drivers that commit at the same time one overwrites the other.
 */
public final class LinkLogStore extends HadoopFileSystemLogStore {
  public LinkLogStore(Configuration conf) {
    super(conf);
  }

  /**
   * @throws java.nio.file.FileAlreadyExistsException when the file exists and is not to be overwritten
   * @throws IOException when it cannot be written or linked
   */
  @Override
  public void write(Path path, Iterator<String> actions, Boolean overwrite, Configuration conf)
      throws IOException {
    java.nio.file.Path place = java.nio.file.Path.of(path.toUri().getPath());
    java.nio.file.Path written =
        place.resolveSibling("." + place.getFileName() + "." + UUID.randomUUID() + ".tmp");
    try {
      writeLines(written, actions);
      if (overwrite) {
        Files.move(written, place, StandardCopyOption.ATOMIC_MOVE);
      } else {
        Files.createLink(place, written);
      }
      force(place.getParent());
    } finally {
      Files.deleteIfExists(written);
    }
  }

  @Override
  public Boolean isPartialWriteVisible(Path path, Configuration conf) {
    return false;
  }

  private static void writeLines(java.nio.file.Path file, Iterator<String> lines) throws IOException {
    try (BufferedWriter out =
        Files.newBufferedWriter(file, StandardCharsets.UTF_8, StandardOpenOption.CREATE_NEW)) {
      while (lines.hasNext()) {
        out.write(lines.next());
        out.write('\n');
      }
    }
    force(file);
  }

  /** Has the disk keep a file, or what a folder lists: else a power cut may leave a commit that is empty or gone. */
  private static void force(java.nio.file.Path path) throws IOException {
    try (FileChannel channel = FileChannel.open(path, StandardOpenOption.READ)) {
      channel.force(true);
    }
  }
}
