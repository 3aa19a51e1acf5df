"""The database: tables, sessions, migrations. Imports nothing of ours."""
