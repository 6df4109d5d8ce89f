"""The words that the models are written in: bases by schema, columns as words, one naming convention.

A schema is a document: `rat` (pipelines, runs, quality, landing, automation, catalog, audit) and
`lake` (the embedded refs); `trace` (orchestration state, data versions, alerts), `chm` (clients and the
health of their pipelines) and `lakeflow` (the reporting star). Creating and upgrading is `migrations`.
"""

import uuid
from datetime import datetime
from typing import Annotated, Any

from sqlalchemy import ARRAY, MetaData, Table, Text, Uuid, func
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.orm import DeclarativeBase, mapped_column

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

timestamptz = TIMESTAMP(timezone=True)
# Python's None is no value, not JSON's null.
jsonb = JSONB(none_as_null=True)

uuid_pk = Annotated[
    uuid.UUID, mapped_column(primary_key=True, server_default=func.gen_random_uuid())
]
now = Annotated[datetime, mapped_column(timestamptz, server_default=func.now())]
moment = Annotated[datetime, mapped_column(timestamptz)]
Json = Annotated[Any, mapped_column(jsonb)]


class Base(DeclarativeBase):
    """A row of a table in the schema that the base of its document names."""

    __abstract__ = True
    schema: str

    metadata = metadata
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own way to say it
        datetime: timestamptz,
        uuid.UUID: Uuid(),
        str: Text(),
        list[str]: ARRAY(Text()),
        dict[str, Any]: jsonb,
    }

    @classmethod
    def __table_cls__(
        cls,
        name: str,
        metadata: MetaData,
        *args: Any,  # noqa: ANN401 - what SQLAlchemy hands over
        **kwargs: Any,  # noqa: ANN401
    ) -> Table:
        # Models name their constraints in __table_args__ and need not repeat the schema there.
        return Table(name, metadata, *args, **{"schema": cls.schema, **kwargs})


class RatBase(Base):
    """A table of the platform itself."""

    __abstract__ = True
    schema = "rat"


class LakeBase(Base):
    """A table of the embedded refs: branches, tags, commits."""

    __abstract__ = True
    schema = "lake"


class TraceBase(Base):
    """A table of orchestration state, lineage, data versions, alerts and queries."""

    __abstract__ = True
    schema = "trace"


class ChmBase(Base):
    """A table of clients, their pipelines and runs, and the rules that watch them."""

    __abstract__ = True
    schema = "chm"


class LakeflowBase(Base):
    """A dimension or a fact of the reporting star."""

    __abstract__ = True
    schema = "lakeflow"


SCHEMAS = tuple(
    each.schema for each in (RatBase, LakeBase, TraceBase, ChmBase, LakeflowBase)
)
