"""Have all records looked through again, by rules that have changed: the bands of near-duplicates, personal data.

The light job does it after the update; until it has come to a record, what was worked out before stands.
"""

from alembic import op

revision = '0003'
down_revision = '0002'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute('DELETE FROM band')
    op.execute('DELETE FROM question_count')  # counted again from the first record on
    op.execute('UPDATE project SET prepared_up_to = 0')
