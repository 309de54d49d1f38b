package pinterest.databricks;

import java.io.IOException;
import java.net.URI;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.FSDataInputStream;
import org.apache.hadoop.fs.FSDataOutputStream;
import org.apache.hadoop.fs.FileStatus;
import org.apache.hadoop.fs.FileSystem;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.fs.permission.FsPermission;
import org.apache.hadoop.util.Progressable;

/** {@code dbfs:/} of a workspace without legacy features: every path is refused, in Databricks' own words. */
public final class ClosedDbfs extends FileSystem {
  private URI uri;

  @Override
  public void initialize(URI name, Configuration conf) throws IOException {
    super.initialize(name, conf);
    uri = name;
  }

  @Override
  public URI getUri() {
    return uri;
  }

  @Override
  public Path getWorkingDirectory() {
    return new Path(uri.toString(), "/");
  }

  @Override
  public void setWorkingDirectory(Path folder) {}

  @Override
  public FSDataInputStream open(Path path, int bufferSize) {
    throw refused(path);
  }

  @Override
  public FSDataOutputStream create(
      Path path,
      FsPermission permission,
      boolean overwrite,
      int bufferSize,
      short replication,
      long blockSize,
      Progressable progress) {
    throw refused(path);
  }

  @Override
  public FSDataOutputStream append(Path path, int bufferSize, Progressable progress) {
    throw refused(path);
  }

  @Override
  public boolean rename(Path source, Path target) {
    throw refused(source);
  }

  @Override
  public boolean delete(Path path, boolean recursive) {
    throw refused(path);
  }

  @Override
  public FileStatus[] listStatus(Path path) {
    throw refused(path);
  }

  @Override
  public boolean mkdirs(Path path, FsPermission permission) {
    throw refused(path);
  }

  @Override
  public FileStatus getFileStatus(Path path) {
    throw refused(path);
  }

  private static UnsupportedOperationException refused(Path path) {
    return new UnsupportedOperationException(
        "Public DBFS root is disabled. Access is denied on path: " + path.toUri().getPath());
  }
}
