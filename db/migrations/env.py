"""Alembic's entry: run the migrations on the connection that `db.session.migrate` hands over."""

from alembic import context

from db import models

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=models.Table.metadata,
    render_as_batch=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
