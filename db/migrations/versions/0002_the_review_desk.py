"""The review desk: orders and filters of the queue, drafts, views, guidelines, near-duplicates, counts."""

import json

import sqlalchemy as sa
from alembic import op

from db import search

revision = '0002'
down_revision = '0001'
branch_labels = None
depends_on = None

NOW = sa.DateTime(timezone=True)
QUEUE = {
    'doubt': 'rank, id', 'thumbs': 'thumbs, rank, id', 'weak': 'weak DESC, rank, id',
    'refusal': 'refusal DESC, rank, id', 'asked': 'asked DESC, rank, id', 'age': 'id',
}


def upgrade() -> None:
    op.create_table('guideline',
    sa.Column('id', sa.Integer(), nullable=False),
    sa.Column('project_id', sa.Integer(), nullable=False),
    sa.Column('number', sa.Integer(), nullable=False),
    sa.Column('text', sa.Text(), nullable=False),
    sa.Column('user_id', sa.Integer(), nullable=True),
    sa.Column('created_at', NOW, nullable=False),
    sa.ForeignKeyConstraint(['project_id'], ['project.id'], ),
    sa.ForeignKeyConstraint(['user_id'], ['user.id'], ),
    sa.PrimaryKeyConstraint('id'),
    sa.UniqueConstraint('project_id', 'number')
    )
    op.create_table('question_count',
    sa.Column('project_id', sa.Integer(), nullable=False),
    sa.Column('key', sa.BigInteger(), nullable=False),
    sa.Column('number', sa.Integer(), nullable=False),
    sa.ForeignKeyConstraint(['project_id'], ['project.id'], ),
    sa.PrimaryKeyConstraint('project_id', 'key')
    )
    op.create_table('record_count',
    sa.Column('project_id', sa.Integer(), nullable=False),
    sa.Column('state', sa.String(), nullable=False),
    sa.Column('number', sa.Integer(), nullable=False),
    sa.ForeignKeyConstraint(['project_id'], ['project.id'], ),
    sa.PrimaryKeyConstraint('project_id', 'state')
    )
    op.create_table('saved_view',
    sa.Column('id', sa.Integer(), nullable=False),
    sa.Column('project_id', sa.Integer(), nullable=False),
    sa.Column('user_id', sa.Integer(), nullable=False),
    sa.Column('name', sa.String(), nullable=False),
    sa.Column('query', sa.JSON(), nullable=False),
    sa.Column('shared', sa.Boolean(), nullable=False),
    sa.Column('created_at', NOW, nullable=False),
    sa.ForeignKeyConstraint(['project_id'], ['project.id'], ),
    sa.ForeignKeyConstraint(['user_id'], ['user.id'], ),
    sa.PrimaryKeyConstraint('id'),
    sa.UniqueConstraint('project_id', 'user_id', 'name')
    )
    op.create_table('band',
    sa.Column('project_id', sa.Integer(), nullable=False),
    sa.Column('hash', sa.BigInteger(), nullable=False),
    sa.Column('record_id', sa.Integer(), nullable=False),
    sa.ForeignKeyConstraint(['project_id'], ['project.id'], ),
    sa.ForeignKeyConstraint(['record_id'], ['record.id'], ),
    sa.PrimaryKeyConstraint('project_id', 'hash', 'record_id')
    )
    op.create_table('draft',
    sa.Column('user_id', sa.Integer(), nullable=False),
    sa.Column('record_id', sa.Integer(), nullable=False),
    sa.Column('record_version', sa.Integer(), nullable=False),
    sa.Column('rating', sa.Integer(), nullable=True),
    sa.Column('reasons', sa.JSON(), nullable=False),
    sa.Column('question', sa.Text(), nullable=True),
    sa.Column('answer', sa.Text(), nullable=True),
    sa.Column('turns', sa.JSON(), nullable=False),
    sa.Column('passages', sa.JSON(), nullable=False),
    sa.Column('comment', sa.Text(), nullable=False),
    sa.Column('saved_at', NOW, nullable=False),
    sa.ForeignKeyConstraint(['record_id'], ['record.id'], ),
    sa.ForeignKeyConstraint(['user_id'], ['user.id'], ),
    sa.PrimaryKeyConstraint('user_id', 'record_id')
    )
    _add('project', 'prepared_up_to', 'INTEGER NOT NULL DEFAULT 0')
    for name, kind in (
        ('thumbs', 'INTEGER NOT NULL DEFAULT 0'), ('refusal', 'BOOLEAN NOT NULL DEFAULT FALSE'),
        ('weak', 'INTEGER NOT NULL DEFAULT 0'), ('length', 'INTEGER NOT NULL DEFAULT 0'),
        ('asked', 'INTEGER NOT NULL DEFAULT 1'), ('question_key', 'BIGINT NOT NULL DEFAULT 0'),
        ('cluster_id', 'INTEGER'), ('personal', 'VARCHAR'), ('gold', 'BOOLEAN NOT NULL DEFAULT FALSE'),
        ('assigned_to', 'INTEGER REFERENCES "user" (id)'),
    ):
        _add('record', name, kind)
    _add('review', 'turns', "JSON NOT NULL DEFAULT '{}'")
    _add('review', 'passages', "JSON NOT NULL DEFAULT '{}'")
    _add('review', 'batch', "VARCHAR NOT NULL DEFAULT ''")
    _add('snapshot', 'left_out', 'INTEGER NOT NULL DEFAULT 0')
    _add('user', 'keys', "JSON NOT NULL DEFAULT '{}'")
    _add('user', 'single_keys', 'BOOLEAN NOT NULL DEFAULT TRUE')
    _fill()
    op.create_index('ix_record_question_key', 'record', ['question_key'])
    op.execute('CREATE INDEX record_cluster ON record (cluster_id) WHERE cluster_id IS NOT NULL')
    op.execute("CREATE INDEX review_batch ON review (batch) WHERE batch != ''")
    op.execute('CREATE INDEX review_final ON review (id) WHERE adjudication')
    op.create_index('ix_review_created_at', 'review', ['created_at'])
    op.execute('CREATE INDEX record_gold ON record (project_id, id) WHERE gold')
    op.execute("CREATE INDEX record_unsure ON record (project_id, id) WHERE state = 'unsure'")
    op.execute('DROP INDEX record_queue')
    op.execute('CREATE INDEX record_state ON record (project_id, state, id)')
    for order, columns in QUEUE.items():
        op.execute(f"CREATE INDEX queue_{order} ON record (project_id, assigned_to, {columns}) WHERE state = 'new'")
    search.create(op.get_bind())


def _add(table: str, column: str, kind: str) -> None:
    """Add a column in place; Alembic's batch mode would copy the table, which foreign keys forbid."""
    op.execute(f'ALTER TABLE "{table}" ADD COLUMN {column} {kind}')


def _fill() -> None:
    """Work out the new columns of the records that are there already."""
    connection = op.get_bind()
    record = sa.table('record', *map(sa.column, ('id', 'signals', 'question', 'answer', 'thumbs', 'refusal', 'weak', 'length')))
    change = record.update().where(record.c.id == sa.bindparam('key')).values(
        {name: sa.bindparam(f'new_{name}') for name in ('thumbs', 'refusal', 'weak', 'length')}
    )
    page = sa.select(
        record.c.id, sa.cast(record.c.signals, sa.Text), sa.func.length(record.c.question), sa.func.length(record.c.answer)
    ).order_by(record.c.id).limit(1000)
    last = 0
    while rows := connection.execute(page.where(record.c.id > last)).all():
        last = rows[-1][0]
        changes = []
        for key, signals, question, answer in rows:
            known = json.loads(signals)
            score, thumbs = known.get('score'), known.get('thumbs')
            weak = round(1000 * (1 - score)) if isinstance(score, (int, float)) and 0 <= score <= 1 else 0
            changes.append({
                'key': key, 'new_thumbs': thumbs if thumbs in (-1, 1) else 0, 'new_refusal': bool(known.get('refusal')),
                'new_weak': weak, 'new_length': question + answer,
            })
        connection.execute(change, changes)
    op.execute('INSERT INTO record_count (project_id, state, number) SELECT project_id, state, count(*) FROM record GROUP BY project_id, state')
    op.execute(
        "INSERT INTO guideline (project_id, number, text, created_at) "
        "SELECT id, 1, guidelines, created_at FROM project WHERE guidelines != ''"
    )
