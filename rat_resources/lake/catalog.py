"""The catalog: PyIceberg's view of the tables at one ref.

On a branch tables can be written, each write one commit of the branch; at `main@<hash>`, `@<hash>`
or a tag they can only be read. It tries everything once: whether a conflict is worth another attempt
is for the caller to know. It never deletes a file that a commit may name: another branch may, too.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import NoReturn
from urllib.parse import unquote

import pyarrow as pa
from pyiceberg.catalog import MetastoreCatalog, PropertiesUpdateSummary
from pyiceberg.exceptions import (
    CommitFailedException,
    CommitStateUnknownException,
    NamespaceAlreadyExistsError,
    NamespaceNotEmptyError,
    NoSuchNamespaceError,
    NoSuchTableError,
    NoSuchViewError,
    TableAlreadyExistsError,
)
from pyiceberg.io import FileIO, load_file_io
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.serializers import FromInputFile
from pyiceberg.table import CommitTableResponse, StagedTable, Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER, SortOrder
from pyiceberg.table.update import TableRequirement, TableUpdate
from pyiceberg.typedef import EMPTY_DICT, Identifier, Properties
from pyiceberg.view import View
from pyiceberg.view.metadata import ViewVersion

from rat_resources import faults
from rat_resources.errors import (
    CatalogError,
    ConflictError,
    LostAnswerError,
    MergeConflictError,
    NotFoundError,
)
from rat_resources.lake.locations import is_local
from rat_resources.lake.refs import (
    CommitResult,
    ConflictType,
    Content,
    Delete,
    IcebergTable,
    Key,
    Namespace,
    Operation,
    Put,
    ReferenceType,
    Refs,
    parents,
    split_place,
)

LEVELS = 3  # namespace, layer, name
METADATA_CACHED = 256
DELETE_OLD_METADATA = "write.metadata.delete-after-commit.enabled"
TABLE_PROPERTIES = {
    "commit.manifest-merge.enabled": "true",
    # PyIceberg would sleep, and append once more to whatever it finds then.
    "commit.retry.num-retries": "0",
    # What one branch gives up, another still reads.
    "gc.enabled": "false",
}


# Named, not imported: a lake of local files has no need of it.
S3_FILES = {"py-io-impl": "rat_resources.lake.s3_files.S3FileIO"}


class CommitLostError(LostAnswerError, CommitStateUnknownException):
    """Nobody knows yet whether the commit was done."""


class RefCatalog(MetastoreCatalog):
    """The tables at *ref*; its commits bear *message* and *properties*."""

    def __init__(
        self,
        refs: Refs,
        *,
        ref: str,
        warehouse: str | Path,
        message: str = "",
        properties: Mapping[str, str] | None = None,
        io: Mapping[str, str] | None = None,
    ) -> None:
        self.refs = refs
        self.ref = ref
        self.message = message
        self.commit_properties = dict(properties or {})
        self.branch, self.hash = split_place(ref)
        location = warehouse_location(warehouse)
        files = file_properties(location)
        super().__init__(ref, **{**files, **(io or {}), "warehouse": location})
        self.warehouse = location

    # Tables

    def load_table(self, identifier: str | Identifier) -> Table:
        """The table; NoSuchTableError if the ref has none of that name."""
        key = table_key(identifier, NoSuchTableError)
        content = self.refs.content(key, at=self.ref)
        if not isinstance(content, IcebergTable):
            message = f"there is no table {'.'.join(key)} at {self.ref}"
            raise NoSuchTableError(message)
        return self.load_table_at(key, content)

    def load_many(self, keys: Iterable[Key]) -> dict[Key, Table]:
        """The tables among *keys* that exist, by one look-up in the refs."""
        return {
            key: self.load_table_at(key, content)
            for key, content in self.refs.contents(keys, at=self.ref).items()
            if isinstance(content, IcebergTable)
        }

    def load_table_at(self, key: Key, content: IcebergTable) -> Table:
        """The table as *content* says it is, without asking the refs."""
        location = content.metadata_location
        # The properties of a FileIO are part of the key: another warehouse, other credentials.
        metadata = read_metadata(location, tuple(sorted(self.properties.items())))
        io = self._load_file_io(metadata.properties, location)
        return Table(key, metadata, location, io, self)

    def table_exists(self, identifier: str | Identifier) -> bool:
        """Whether there is such a table, without reading its metadata."""
        key = table_key(identifier, NoSuchTableError)
        return isinstance(self.refs.content(key, at=self.ref), IcebergTable)

    def list_tables(self, namespace: str | Identifier) -> list[Identifier]:
        """The tables right in *namespace*."""
        return self._children(self.identifier_to_tuple(namespace), IcebergTable)

    def create_table(  # noqa: PLR0917 - PyIceberg's signature
        self,
        identifier: str | Identifier,
        schema: Schema | pa.Schema,
        location: str | None = None,
        partition_spec: PartitionSpec = UNPARTITIONED_PARTITION_SPEC,
        sort_order: SortOrder = UNSORTED_SORT_ORDER,
        properties: Properties = EMPTY_DICT,
    ) -> Table:
        """Make an empty table, and the namespaces that it lies in, in one commit."""
        self._writable_head()
        staged = self._create_staged_table(
            identifier, schema, location, partition_spec, sort_order, properties
        )
        content = self._commit_metadata(staged, current=None)
        return self.load_table_at(staged.name(), content)

    def commit_table(
        self,
        table: Table,
        requirements: tuple[TableRequirement, ...],
        updates: tuple[TableUpdate, ...],
    ) -> CommitTableResponse:
        """Apply *updates* in one commit of the branch; CommitFailedException if it moved."""
        head = self._writable_head()
        key = table_key(table.name(), NoSuchTableError)
        content = self.refs.content(key, at=f"{self.branch}@{head}")
        current = (
            self.load_table_at(key, content)
            if isinstance(content, IcebergTable)
            else None
        )
        staged = self._update_and_stage_table(current, key, requirements, updates)
        if current is None or staged.metadata != current.metadata:
            self._commit_metadata(staged, current=content, head=head)
            return table_response(staged)
        return table_response(current)

    def register_table(
        self,
        identifier: str | Identifier,
        metadata_location: str,
        overwrite: bool = False,  # noqa: FBT001, FBT002 - PyIceberg's signature
    ) -> Table:
        """Let the table be what *metadata_location* says; *overwrite* one that exists."""
        key = table_key(identifier, ValueError)
        head = self._writable_head()
        current = self.refs.content(key, at=f"{self.branch}@{head}")
        if current is not None and not overwrite:
            message = f"{'.'.join(key)} exists already at {self.ref}"
            raise TableAlreadyExistsError(message)
        metadata = read_metadata(
            metadata_location, tuple(sorted(self.properties.items()))
        )
        content = self._put(key, metadata, metadata_location, current, head=head)
        return self.load_table_at(key, content)

    def drop_table(self, identifier: str | Identifier) -> None:
        """Forget the table on this branch; every file of it stays."""
        key = table_key(identifier, NoSuchTableError)
        head = self._writable_head()
        current = self.refs.content(key, at=f"{self.branch}@{head}")
        if not isinstance(current, IcebergTable):
            message = f"there is no table {'.'.join(key)} at {self.ref}"
            raise NoSuchTableError(message)
        try:
            self._commit([Delete(key, current)], head=head)
        except ConflictError as error:
            raise CommitFailedException(str(error)) from error

    def purge_table(self, identifier: str | Identifier) -> NoReturn:
        """Refused: other branches and commits may need the files."""
        message = f"the files of {identifier} cannot be purged: other branches may need them; drop it"
        raise NotImplementedError(message)

    def rename_table(
        self, from_identifier: str | Identifier, to_identifier: str | Identifier
    ) -> NoReturn:
        """Refused: a table's name is its pipeline's."""
        message = f"{from_identifier} cannot become {to_identifier}: a table is named like its pipeline"
        raise NotImplementedError(message)

    # Namespaces

    def list_namespaces(self, namespace: str | Identifier = ()) -> list[Identifier]:
        """The namespaces right in *namespace*, or the outermost ones."""
        within = self.identifier_to_tuple(namespace) if namespace else ()
        return self._children(within, Namespace)

    def namespace_exists(self, namespace: str | Identifier) -> bool:
        """Whether there is such a namespace."""
        key = self.identifier_to_tuple(namespace)
        return isinstance(self.refs.content(key, at=self.ref), Namespace)

    def load_namespace_properties(self, namespace: str | Identifier) -> Properties:
        """Nothing: namespaces have no properties here."""
        self._require(self.identifier_to_tuple(namespace))
        return {}

    def create_namespace(
        self, namespace: str | Identifier, properties: Properties = EMPTY_DICT
    ) -> None:
        """Make a namespace, in a commit of its own."""
        key = self.identifier_to_tuple(namespace)
        if properties:
            message = f"the namespace {'.'.join(key)} cannot have properties"
            raise NotImplementedError(message)
        if self.namespace_exists(key):
            message = f"the namespace {'.'.join(key)} exists already at {self.ref}"
            raise NamespaceAlreadyExistsError(message)
        try:
            self._commit([Put(key, Namespace())], head=self._writable_head())
        except MergeConflictError as error:
            raise _namespace_error(error) from error

    def create_namespace_if_not_exists(
        self, namespace: str | Identifier, properties: Properties = EMPTY_DICT
    ) -> None:
        """Make a namespace unless it exists."""
        if not self.namespace_exists(namespace):
            self.create_namespace(namespace, properties)

    def drop_namespace(self, namespace: str | Identifier) -> None:
        """Forget an empty namespace."""
        key = self.identifier_to_tuple(namespace)
        self._require(key)
        try:
            self._commit([Delete(key)], head=self._writable_head())
        except MergeConflictError as error:
            raise _namespace_error(error) from error

    def update_namespace_properties(
        self,
        namespace: str | Identifier,
        removals: set[str] | None = None,
        updates: Properties = EMPTY_DICT,
    ) -> PropertiesUpdateSummary:
        """Refused: namespaces have no properties here."""
        del removals, updates
        message = f"the namespace {namespace} cannot have properties"
        raise NotImplementedError(message)

    # Views: a pipeline's view is inlined where it is read, and the catalog knows nothing of it.

    def list_views(self, namespace: str | Identifier) -> list[Identifier]:
        """None."""
        del namespace
        return []

    def view_exists(self, identifier: str | Identifier) -> bool:
        """False."""
        del identifier
        return False

    def load_view(self, identifier: str | Identifier) -> View:
        """NoSuchViewError."""
        message = f"there is no view {identifier}"
        raise NoSuchViewError(message)

    def drop_view(self, identifier: str | Identifier) -> None:
        """NoSuchViewError."""
        self.load_view(identifier)

    def register_view(
        self, identifier: str | Identifier, metadata_location: str
    ) -> View:
        """Refused: views are not kept here."""
        return self._no_views(identifier, metadata_location)

    def create_view(
        self,
        identifier: str | Identifier,
        schema: Schema | pa.Schema,
        view_version: ViewVersion,
        location: str | None = None,
        properties: Properties = EMPTY_DICT,
    ) -> View:
        """Refused: views are not kept here."""
        return self._no_views(identifier, schema, view_version, location, properties)

    def _no_views(self, identifier: str | Identifier, *_: object) -> NoReturn:
        message = f"{identifier} cannot be a view: the catalog keeps tables only"
        raise NotImplementedError(message)

    # What PyIceberg asks of a MetastoreCatalog

    @staticmethod
    def identifier_to_database_and_table(
        identifier: str | Identifier,
        err: type[ValueError | NoSuchTableError | NoSuchNamespaceError] = ValueError,
    ) -> tuple[str, str]:
        """The folder of the table below the warehouse, and its name."""
        *outer, name = table_key(identifier, err)
        return "/".join(outer), name

    def _resolve_table_location(
        self, location: str | None, database_name: str, table_name: str
    ) -> str:
        # Two branches may make the same table in the same folder: every file's name bears a uuid.
        return (location or f"{self.warehouse}/{database_name}/{table_name}").rstrip(
            "/"
        )

    def _create_staged_table(  # noqa: PLR0917 - PyIceberg's signature
        self,
        identifier: str | Identifier,
        schema: Schema | pa.Schema,
        location: str | None = None,
        partition_spec: PartitionSpec = UNPARTITIONED_PARTITION_SPEC,
        sort_order: SortOrder = UNSORTED_SORT_ORDER,
        properties: Properties = EMPTY_DICT,
    ) -> StagedTable:
        # PyIceberg's would know the table by two names only.
        staged = super()._create_staged_table(
            identifier,
            schema,
            location,
            partition_spec,
            sort_order,
            {**TABLE_PROPERTIES, **properties},
        )
        key = table_key(identifier, ValueError)
        return StagedTable(
            key, staged.metadata, staged.metadata_location, staged.io, self
        )

    @staticmethod
    def _delete_old_metadata(
        io: FileIO, base: TableMetadata, metadata: TableMetadata
    ) -> None:
        # Another branch may point to what is old on this one.
        del io, base, metadata

    # Commits

    def _commit_metadata(
        self, staged: StagedTable, *, current: Content | None, head: str | None = None
    ) -> IcebergTable:
        """Write the table's metadata file and commit it; the file goes if the commit fails."""
        _refuse_deletion(staged.metadata)
        location = staged.metadata_location
        self._write_metadata(staged.metadata, staged.io, location)
        try:
            return self._put(
                staged.name(), staged.metadata, location, current, head=head
            )
        except (CommitFailedException, TableAlreadyExistsError, CatalogError):
            staged.io.delete(location)
            raise

    def _put(
        self,
        key: Key,
        metadata: TableMetadata,
        location: str,
        current: Content | None,
        *,
        head: str | None,
    ) -> IcebergTable:
        content = table_content(metadata, location)
        if current is not None:
            put = Put(key, replace(content, id=current.id), current)
            result = self._commit([put], head=head)
        else:
            result = self._commit(self._with_namespaces(Put(key, content)), head=head)
        committed = result.contents[key]
        assert isinstance(committed, IcebergTable)  # noqa: S101 - it is what we put
        return committed

    def _with_namespaces(self, put: Put) -> list[Operation]:
        outer = parents(put.key)
        there = self.refs.contents(outer, at=self.ref)
        missing = [Put(key, Namespace()) for key in outer if key not in there]
        return [*missing, put]

    def _commit(
        self, operations: Sequence[Operation], *, head: str | None
    ) -> CommitResult:
        names = ", ".join(".".join(operation.key) for operation in operations)
        try:
            faults.point("commit")
            return self.refs.commit(
                str(self.branch),
                operations,
                expected_hash=head,
                message=self.message or f"Change {names}",
                properties=self.commit_properties,
            )
        except MergeConflictError as error:
            _raise_conflict(error, operations)
        except (ConflictError, NotFoundError) as error:
            raise CommitFailedException(str(error)) from error
        except CatalogError:
            raise  # nothing was done
        except Exception as error:
            # It may have arrived, and then its files are the table.
            message = f"nobody knows whether {names} changed on {self.branch}: {error}"
            raise CommitLostError(message) from error

    def _writable_head(self) -> str:
        """The branch's head; an error if the ref can only be read."""
        if self.branch is not None and self.hash is None:
            reference = self.refs.reference(self.branch)
            if reference.type is ReferenceType.BRANCH:
                return reference.hash
        message = f"the tables at {self.ref} can only be read: it is no branch"
        raise ValueError(message)

    def _require(self, namespace: Key) -> None:
        if not self.namespace_exists(namespace):
            message = f"there is no namespace {'.'.join(namespace)} at {self.ref}"
            raise NoSuchNamespaceError(message)

    def _children(
        self, namespace: Key, kind: type[IcebergTable | Namespace]
    ) -> list[Identifier]:
        if namespace:
            self._require(namespace)
        return [
            entry.key
            for entry in self.refs.entries(at=self.ref, prefix=namespace)
            if len(entry.key) == len(namespace) + 1 and isinstance(entry.content, kind)
        ]


def file_properties(warehouse: str) -> Mapping[str, str]:
    """How PyIceberg reads and writes the files of a *warehouse*, where not as it would by itself."""
    return {} if is_local(warehouse) else S3_FILES


def warehouse_location(warehouse: str | Path) -> str:
    """The warehouse as files in it are named: a URL whose path is spelled out, not escaped."""
    location = str(warehouse)
    if isinstance(warehouse, Path):
        location = f"file://{warehouse.absolute()}"
    elif location.startswith("file:///"):
        # Readers of Iceberg take a location as it stands.
        location = unquote(location)
    for sign in "?#":
        if sign in location:
            message = f"the warehouse {location} cannot be used: PyIceberg cuts a location at {sign!r}"
            raise ValueError(message)
    return location.rstrip("/")


def table_key(
    identifier: str | Identifier,
    err: type[ValueError | NoSuchTableError | NoSuchNamespaceError],
) -> Key:
    """The three parts of a table's name, or an *err*."""
    key = RefCatalog.identifier_to_tuple(identifier)
    if len(key) != LEVELS or not all(key):
        message = f"{identifier} is no table name: write namespace.layer.name"
        raise err(message)
    return key


def table_response(table: Table) -> CommitTableResponse:
    """What a commit of *table* answers."""
    fields = {
        "metadata": table.metadata,
        "metadata-location": table.metadata_location,
    }
    return CommitTableResponse.model_validate(fields)


@lru_cache(maxsize=METADATA_CACHED)
def read_metadata(
    location: str, properties: tuple[tuple[str, str], ...]
) -> TableMetadata:
    """What a metadata file says; it never says anything else."""
    io = load_file_io(dict(properties), location)
    return FromInputFile.table_metadata(io.new_input(location))


def table_content(metadata: TableMetadata, location: str) -> IcebergTable:
    """The content that the refs keep of a table."""
    snapshot = metadata.current_snapshot_id
    return IcebergTable(
        metadata_location=location,
        snapshot_id=-1 if snapshot is None else snapshot,
        schema_id=metadata.current_schema_id,
        spec_id=metadata.default_spec_id,
        sort_order_id=metadata.default_sort_order_id,
    )


def _refuse_deletion(metadata: TableMetadata) -> None:
    if metadata.properties.get(DELETE_OLD_METADATA, "false").lower() == "true":
        message = (
            f"{DELETE_OLD_METADATA} would delete metadata that other branches point to"
        )
        raise ValueError(message)


def _raise_conflict(
    error: MergeConflictError, operations: Sequence[Operation]
) -> NoReturn:
    """PyIceberg's error for a conflict of ours."""
    made = {
        op.key
        for op in operations
        if isinstance(op, Put)
        and isinstance(op.content, IcebergTable)
        and op.content.id is None
    }
    for conflict in error.conflicts:
        if conflict.conflict_type == ConflictType.KEY_EXISTS and conflict.key in made:
            raise TableAlreadyExistsError(conflict.message) from error
    if any(
        isinstance(op, Put) and isinstance(op.content, IcebergTable)
        for op in operations
    ):
        raise CommitFailedException(str(error)) from error
    raise error


def _namespace_error(error: MergeConflictError) -> Exception:
    types = {conflict.conflict_type for conflict in error.conflicts}
    if ConflictType.NAMESPACE_NOT_EMPTY in types:
        return NamespaceNotEmptyError(str(error))
    if ConflictType.NAMESPACE_ABSENT in types:
        return NoSuchNamespaceError(str(error))
    return CommitFailedException(str(error))
