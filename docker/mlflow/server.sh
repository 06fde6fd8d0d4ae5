#!/bin/sh
# Starts the MLflow server. The database is named by libpq's variables, so that no password is an argument.
# The application `transect` is accounts.py.
set -eu
exec mlflow server \
    --app-name transect \
    --host 0.0.0.0 --port 5000 --workers 2 \
    --backend-store-uri postgresql+psycopg2:// \
    --serve-artifacts --artifacts-destination "s3://${TRANSECT_BUCKET}"
