"""A run may become several versions, one for each number type of its file."""

import sqlalchemy as sa
from alembic import op

revision = '0006'
down_revision = '0005'
branch_labels = None
depends_on = None

NAMES = {'uq': '%(table_name)s_%(column_0_name)s_key'}  # as PostgreSQL calls them; on SQLite they have no names


def upgrade() -> None:
    with op.batch_alter_table('model_version', naming_convention=NAMES) as table:
        table.drop_constraint('model_version_run_id_key', type_='unique')
        table.add_column(sa.Column('merged_type', sa.String(), nullable=False, server_default='Q8_0'))
        table.add_column(sa.Column('card', sa.JSON(), nullable=False, server_default='{}'))
    op.execute("ALTER TABLE run ADD COLUMN trouble TEXT NOT NULL DEFAULT ''")
    run = sa.table('run', sa.column('id', sa.Integer), sa.column('spec', sa.JSON))
    version = sa.table('model_version', sa.column('run_id', sa.Integer), sa.column('merged_type', sa.String))
    connection = op.get_bind()
    for id_, spec in connection.execute(sa.select(run.c.id, run.c.spec)).all():
        if kind := (spec or {}).get('merged_type'):
            connection.execute(version.update().where(version.c.run_id == id_).values(merged_type=kind))
    if connection.dialect.name == 'sqlite':  # the table was remade while foreign keys were not watched
        for referring in ('promotion', 'battle', 'model_version'):
            assert not connection.exec_driver_sql(f'PRAGMA foreign_key_check({referring})').all()
    kept = sa.text("state <> 'retired'")
    op.create_index(
        'version_once', 'model_version', ['run_id', 'merged_type'], unique=True, sqlite_where=kept, postgresql_where=kept
    )
