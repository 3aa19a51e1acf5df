"""How many single judgements a preference snapshot holds; those of before hold pairs alone."""

from alembic import op

revision = '0007'
down_revision = '0006'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE snapshot ADD COLUMN singles JSON NOT NULL DEFAULT '{}'")
