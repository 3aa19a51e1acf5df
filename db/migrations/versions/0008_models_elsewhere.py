"""The name of a model elsewhere that a version was compared with."""

from alembic import op

revision = '0008'
down_revision = '0007'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE battle ADD COLUMN outside VARCHAR NOT NULL DEFAULT ''")


def downgrade() -> None:
    op.drop_column('battle', 'outside')
