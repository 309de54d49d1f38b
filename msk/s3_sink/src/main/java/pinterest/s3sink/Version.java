package pinterest.s3sink;

/** The plug-in's version, as its jar says. */
final class Version {

  static final String TEXT = text();

  private Version() {}

  private static String text() {
    String version = Version.class.getPackage().getImplementationVersion();
    return version == null ? "unpackaged" : version;
  }
}
