"""The laptop's stand-in for AWS: ministack behind a signature check, and MSK Connect in front of Kafka Connect."""
