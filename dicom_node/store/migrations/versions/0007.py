"""Search keys of DICOMweb; the catalogue is made again from the spool."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

LENGTHS = {
    "patient_name": 256,
    "patient_id": 64,
    "accession_number": 64,
    "referring_physician": 256,
    "study_time": 16,
    "study_identifier": 64,
    "modalities": 64,
}


def upgrade() -> None:
    op.execute("DELETE FROM catalogue")
    with op.batch_alter_table("catalogue", schema=None) as batch_op:
        for name, length in LENGTHS.items():
            batch_op.add_column(sa.Column(name, sa.String(length=length), nullable=False))
    op.create_index("catalogue_by_patient_id", "catalogue", ["patient_id"])
