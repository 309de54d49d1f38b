package pinterest.s3sink;

import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.Locale;

/** Why a record cannot be a line of an object. */
enum Fault {
  NULL_VALUE("the value is null"),
  LINE_BREAK("the value holds a line break, so it cannot be one line");

  private final String text;

  Fault(String text) {
    this.text = text;
  }

  /** Returns what is wrong with a value, or null when it can be a line. */
  static Fault of(byte[] value) {
    if (value == null) {
      return NULL_VALUE;
    }
    for (byte each : value) {
      if (each == '\n') {
        return LINE_BREAK;
      }
    }
    return null;
  }

  /** The fault as a person reads it. */
  String text() {
    return text;
  }

  /** Returns the value with its fault, as one line of JSON: its bytes as base64, or null. */
  byte[] envelope(byte[] value) {
    String raw = value == null ? "null" : "\"" + Base64.getEncoder().encodeToString(value) + "\"";
    String name = name().toLowerCase(Locale.ROOT);
    return ("{\"reason\":\"" + name + "\",\"raw\":" + raw + "}").getBytes(StandardCharsets.US_ASCII);
  }
}
