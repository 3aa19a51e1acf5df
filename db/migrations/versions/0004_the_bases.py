"""The bases: where they come from, what they know, whether they were admitted, and those on their way in."""

import sqlalchemy as sa
from alembic import op

revision = '0004'
down_revision = '0003'
branch_labels = None
depends_on = None

EMBEDDED = 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53'
WEIGHTS_PER_BYTE = 1.37  # of that one; others are counted when they are added again
NOW = sa.DateTime(timezone=True)


def upgrade() -> None:
    for name, kind in (
        ('source', "VARCHAR NOT NULL DEFAULT 'file'"), ('origin', "VARCHAR NOT NULL DEFAULT ''"),
        ('languages', "VARCHAR NOT NULL DEFAULT ''"), ('parameters', 'BIGINT NOT NULL DEFAULT 0'),
        ('admission', "VARCHAR NOT NULL DEFAULT 'not checked'"), ('admission_message', "TEXT NOT NULL DEFAULT ''"),
        ('admission_detail', "TEXT NOT NULL DEFAULT ''"),
    ):
        op.execute(f'ALTER TABLE base ADD COLUMN {name} {kind}')
    op.execute(f"UPDATE base SET parameters = CAST(size * {WEIGHTS_PER_BYTE} AS BIGINT)")
    op.execute(f"UPDATE base SET source = 'embedded', languages = 'en' WHERE sha256 = '{EMBEDDED}'")
    op.create_table('arrival',
    sa.Column('id', sa.Integer(), nullable=False),
    sa.Column('source', sa.String(), nullable=False),
    sa.Column('origin', sa.String(), nullable=False),
    sa.Column('file', sa.String(), nullable=False),
    sa.Column('state', sa.String(), nullable=False),
    sa.Column('received', sa.BigInteger(), nullable=False),
    sa.Column('size', sa.BigInteger(), nullable=False),
    sa.Column('error', sa.Text(), nullable=False),
    sa.Column('base_id', sa.Integer(), nullable=True),
    sa.Column('created_by', sa.Integer(), nullable=True),
    sa.Column('created_at', NOW, nullable=False),
    sa.Column('finished_at', NOW, nullable=True),
    sa.ForeignKeyConstraint(['base_id'], ['base.id'], ),
    sa.ForeignKeyConstraint(['created_by'], ['user.id'], ),
    sa.PrimaryKeyConstraint('id')
    )
