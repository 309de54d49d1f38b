package pinterest.s3sink;

/** Where objects are kept: S3, or a stand-in in tests. */
interface ObjectStore extends AutoCloseable {

  /**
   * Puts an object, whole or not at all, in the place of one with the same key.
   *
   * @throws StoreException when it is not certain that the object is there; putting it again is harmless
   */
  void put(String key, byte[] content) throws StoreException;

  @Override
  void close();

  /** An object could not be put. */
  final class StoreException extends Exception {
    private static final long serialVersionUID = 1L;

    StoreException(String message, Throwable cause) {
      super(message, cause);
    }
  }
}
