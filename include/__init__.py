"""What the DAGs use besides Airflow: the emulators and the notebooks."""
