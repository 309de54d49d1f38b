"""The pipeline's Airflow code: hooks, operators, sensors, triggers, and the client of the API they share."""
