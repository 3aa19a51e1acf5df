"""As what a version lies in its runtime, and what dropping it frees there."""

from alembic import op

revision = '0005'
down_revision = '0004'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE model_version ADD COLUMN form VARCHAR NOT NULL DEFAULT 'merged'")
    op.execute('ALTER TABLE model_version ADD COLUMN frees BIGINT')
