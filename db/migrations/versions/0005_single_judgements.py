"""How many single judgements a preference snapshot holds; those of before hold pairs alone."""

from alembic import op

revision = '0005'
down_revision = '0004'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE snapshot ADD COLUMN singles JSON NOT NULL DEFAULT '{}'")


def downgrade() -> None:
    op.execute('ALTER TABLE snapshot DROP COLUMN singles')
