"""Pages outside Superset and Airflow: start page, open-data preview, interface specification; one style, no script."""
