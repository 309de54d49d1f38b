package pinterest.s3sink;

/** Where objects are kept: S3, or a stand-in in tests. */
interface ObjectStore extends AutoCloseable {

  /**
   * Ensures that an object holds the content, whole: creates it, or extends the shorter one that the content begins
   * with. An object that begins with the content is left as it is, and so is any other one.
   *
   * @param content lines, each with its line feed
   * @param firstTimestamp the Kafka timestamp of the first line's record, or null
   * @throws StoreException when it is not certain that the object is there; putting it again is harmless
   * @throws OtherRecordsException when the key holds other records
   */
  void put(String key, byte[] content, Long firstTimestamp) throws StoreException, OtherRecordsException;

  @Override
  void close();

  /** An object could not be put. */
  final class StoreException extends Exception {
    private static final long serialVersionUID = 1L;

    StoreException(String message, Throwable cause) {
      super(message, cause);
    }
  }

  /** The key of an object is taken by records that are not those to be put. */
  final class OtherRecordsException extends Exception {
    private static final long serialVersionUID = 1L;

    OtherRecordsException(String address) {
      super(
          address + " holds other records than those read for it, and was left as it is: another connector writes"
              + " here, or the object comes from an earlier topic of this name. Stop the other connector, or move the"
              + " earlier topic's objects away, and restart this task");
    }
  }
}
