"""What a file that is no good is told: what fails names the file, and nothing of it is lost."""

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import func, select

from rat_assets.cli import rat
from rat_assets.runner import TableReport
from rat_resources import landing, releases
from rat_resources.metadata.landing import ClaimState, LandingClaim, LandingFile
from rat_resources.metadata.runs import Run
from rat_sensors.landing import describe, look_around
from tests.factories import Shop, folder_of

NOBODY = 65534
GOOD = "id,name,amount\n1,ann,2.5\n2,bob,3\n"
MORE = "id,name,amount\n3,eve,4.5\n"
FOLDER = "shop/pipelines/bronze"
READ = "SELECT * FROM read_csv('{{ landing_zone('%s') }}/*.csv')"
TYPED = """
SELECT id, name, amount
FROM read_csv(
  '{{ landing_zone('typed') }}/*.csv', header = true,
  columns = {'id': 'BIGINT', 'name': 'VARCHAR', 'amount': 'DOUBLE'}
)
"""
EXPECTED = """
expected_schema:
  columns: {id: bigint, name: varchar, amount: double}
"""
NEW = """
-- @merge_strategy: append_only
SELECT * FROM read_csv('{{ landing_zone('new', new=true) }}/*.csv')
"""
PROJECT = {
    f"{FOLDER}/plain/pipeline.sql": READ % "plain",
    f"{FOLDER}/typed/pipeline.sql": TYPED,
    f"{FOLDER}/strict/pipeline.sql": READ % "strict",
    f"{FOLDER}/new/pipeline.sql": NEW,
    "shop/landing/strict.yaml": EXPECTED,
}
ZONES = ("plain", "typed", "strict", "new")


def zone_folder(shop: Shop, zone: str) -> Path:
    """Where the files of a zone lie."""
    return folder_of(shop.whole.settings.store) / "shop" / "landing" / zone


@pytest.fixture(scope="module", autouse=True)
def _published(shop: Shop) -> None:
    """Every pipeline has read one good file before the first mistake."""
    shop.publish(PROJECT)
    for zone in ZONES:
        shop.land("a.csv", GOOD, zone=f"shop/{zone}")
    assert shop.run().succeeded


@pytest.fixture(autouse=True)
def _tidied(shop: Shop) -> Iterator[None]:
    """Only the good file lies in a zone when a test begins."""
    yield
    for zone in ZONES:
        for entry in zone_folder(shop, zone).iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry.name != "a.csv":
                entry.unlink()
    shop.notice()


def put(shop: Shop, zone: str, files: Mapping[str, str | bytes]) -> None:
    """Put files into a zone, as somebody who copies them there."""
    for name, content in files.items():
        path = zone_folder(shop, zone) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def run(shop: Shop, zone: str) -> TableReport:
    """Run the pipeline that reads a zone."""
    (report,) = shop.run(f"shop.bronze.{zone}").tables
    return report


def call(*arguments: str) -> Result:
    """What a command says."""
    return CliRunner().invoke(rat, list(arguments))


def waiting() -> dict[str, str]:
    """What `rat waiting` says of each file."""
    listed = json.loads(call("waiting", "--json").stdout)
    return {f"{each['zone']}/{each['name']}": each["reason"] for each in listed}


def committed(shop: Shop, zone: str) -> set[str]:
    """The files of a zone that count as read."""
    with shop.whole.metadata.transaction() as tx:
        found = landing.get_zone(tx, "shop", name=zone)
        assert found is not None
        names = (
            select(LandingFile.filename)
            .join(LandingClaim, LandingClaim.file_id == LandingFile.id)
            .where(
                LandingFile.zone_id == found.id,
                LandingClaim.state == ClaimState.COMMITTED,
            )
        )
        return set(tx.scalars(names))


def mistake(sentence: str, zone: str, content: str | bytes, what: str) -> object:
    """A file that is no good, named by a sentence, and what its run says."""
    return pytest.param(zone, content, what, id=f"{sentence}, {zone}")


HALF = ", as in a file that is half-written"


@pytest.mark.parametrize(
    ("zone", "content", "what"),
    [
        mistake("an empty file", "typed", "", "it is empty"),
        mistake("an empty file", "strict", "", "it is empty"),
        mistake(
            "binary data",
            "plain",
            bytes(range(256)) * 20,
            "it is no text but binary data",
        ),
        mistake(
            "a gzip file",
            "strict",
            b"\x1f\x8b\x08\x00" + bytes(range(256)),
            "it is compressed by gzip, and its name does not end in .gz",
        ),
        mistake(
            "a line that was cut off",
            "plain",
            "id,name,amount\n1,ann,2.5\n2,b",
            f"line 3 has 2 values, and the header has 3 columns{HALF}",
        ),
        mistake(
            "a text that was cut off",
            "strict",
            'id,name,amount\n1,ann,2.5\n2,"bo',
            f"a quote is opened and never closed{HALF}",
        ),
        mistake(
            "a line that is too long",
            "strict",
            "id,name,amount\n1,ann,2.5\n2,bob,3,4,5\n",
            "line 3 has 5 values, and the header has 3 columns",
        ),
        mistake(
            "another delimiter",
            "typed",
            GOOD.replace(",", ";"),
            "its values are separated by ';', and the query expects another sign",
        ),
        mistake(
            "another encoding",
            "plain",
            "id,name,amount\n1,Zoë,2.5\n".encode("latin-1"),
            "line 2 is no UTF-8 text",
        ),
        mistake(
            "another encoding", "strict", GOOD.encode("utf-16"), "it is UTF-16 text"
        ),
        mistake(
            "a column missing",
            "plain",
            "id,name\n1,ann\n",
            "column amount is missing, which other files have",
        ),
        mistake(
            "a column missing", "strict", "id,name\n1,ann\n", "column amount is missing"
        ),
        mistake(
            "an extra column",
            "typed",
            "id,name,amount,x\n1,ann,2.5,4\n",
            "it has 4 columns, and the query names 3",
        ),
        mistake(
            "an extra column",
            "strict",
            "id,name,amount,x\n1,ann,2.5,4\n",
            "column x is not expected",
        ),
        mistake(
            "a column of another type",
            "typed",
            "id,name,amount\n1,ann,2.5\n2,bob,many\n",
            "line 3: column amount holds 'many', which is no DOUBLE",
        ),
        mistake(
            "a column of another type",
            "strict",
            "id,name,amount\n1,ann,2.5\n2,bob,many\n",
            "column amount is VARCHAR (many), expected double",
        ),
    ],
)
def test_a_bad_file_is_named_and_waits_and_main_stays(
    shop: Shop, zone: str, content: str | bytes, what: str
) -> None:
    before, read = shop.main, committed(shop, zone)
    put(shop, zone, {"b.csv": content})

    report = run(shop, zone)

    message = (
        f"shop/{zone}/b.csv: {what}; "
        f"correct it and copy it again, or: rat reject shop/{zone} b.csv"
    )
    assert (report.status, report.error) == ("failed", message)
    assert waiting()[f"shop/{zone}/b.csv"] == message
    assert (shop.main, shop.branches) == (before, [])
    assert committed(shop, zone) == read
    assert (zone_folder(shop, zone) / "b.csv").exists()


def test_the_terminal_says_the_same(shop: Shop) -> None:
    put(shop, "strict", {"b.csv": ""})

    shown = call("run", "shop.bronze.strict", "--json")

    (table,) = json.loads(shown.stdout)["tables"]
    assert shown.exit_code == 1
    assert table["error"].startswith("shop/strict/b.csv: it is empty; correct it")


def test_nothing_but_empty_files_leaves_the_table_as_it_is(shop: Shop) -> None:
    before = shop.main
    put(shop, "new", {"b.csv": "", "c.csv": ""})

    report = run(shop, "new")

    assert report.error == (
        "shop/new/b.csv: it is empty, and so are 1 more files; "
        "correct it and copy it again, or: rat reject shop/new b.csv"
    )
    assert shop.main == before


def test_a_header_alone_is_a_file_without_rows(shop: Shop) -> None:
    put(shop, "strict", {"b.csv": "id,name,amount\n"})

    report = run(shop, "strict")

    assert (report.status, report.rows_total) == ("published", 2)
    assert "b.csv" in committed(shop, "strict")


def test_after_a_rejected_file_the_others_are_published(shop: Shop) -> None:
    put(shop, "strict", {"bad\n1.csv": "x", "good.csv": MORE})
    failed = run(shop, "strict")

    rejected = call("reject", "shop/strict", "bad\n1.csv")
    report = run(shop, "strict")

    assert (failed.error or "").startswith(r"shop/strict/'bad\n1.csv': column id")
    assert rejected.exit_code == 0, rejected.output
    assert (report.status, report.rows_total) == ("published", 3)
    aside = zone_folder(shop, "strict") / "_rejected" / "bad\n1.csv"
    assert aside.read_text() == "x"


def test_a_corrected_file_is_read_by_the_next_run(shop: Shop) -> None:
    put(shop, "typed", {"b.csv": "id;name;amount\n3;eve;4.5\n"})
    failed = run(shop, "typed")
    put(shop, "typed", {"b.csv": MORE})

    report = run(shop, "typed")

    assert failed.status == "failed"
    assert (report.status, report.rows_total) == ("published", 3)
    assert waiting() == {}


@pytest.mark.parametrize("zone", ["plain", "strict"])
def test_a_name_may_hold_anything(shop: Shop, zone: str) -> None:
    names = ("b c.csv", 'it\'s "b".csv', "Größe-数.csv", "b\nc.csv", "b[1]*.csv")
    put(shop, zone, dict.fromkeys(names, MORE))

    report = run(shop, zone)

    assert (report.status, report.rows_total) == ("published", 2 + len(names))
    assert committed(shop, zone) >= set(names)


@pytest.mark.parametrize("name", ["b.CSV", "sub/b.csv", "b.csv/b.txt"])
def test_a_file_that_no_path_matches_does_not_count_as_read(
    shop: Shop, name: str
) -> None:
    before, rows = shop.main, len(shop.rows("shop.bronze.new"))
    put(shop, "new", {name: MORE})

    alone = run(shop, "new")
    put(shop, "new", {"c.csv": MORE.replace("3", str(rows))})
    beside = run(shop, "new")

    log = next(each for each in shop.runs() if each.id == beside.run_id).logs or []
    assert alone.status == "unchanged"
    assert shop.main != before
    assert (beside.status, beside.rows_total) == ("published", rows + 1)
    assert name not in committed(shop, "new")
    assert any(f"shop/new/{name}: {landing.UNREAD}" in str(line) for line in log)


def test_where_every_file_has_another_name_the_path_is_to_blame(shop: Shop) -> None:
    path = f"{FOLDER}/renamed/pipeline.sql"
    shop.publish({path: READ % "renamed"})
    put(shop, "renamed", {"b.CSV": MORE})

    report = run(shop, "renamed")

    assert report.error == (
        f"shop/renamed/b.CSV: {landing.UNREAD}; correct the path in {path}, or the name"
    )
    assert committed(shop, "renamed") == set()


def test_a_link_that_leaves_the_zone_is_refused_aloud(shop: Shop) -> None:
    (zone_folder(shop, "new") / "link.csv").symlink_to("/etc/passwd")
    said = "shop/new/link.csv is not read: it is a link out of the zone, to /etc/passwd"

    looks = look_around(shop.whole.metadata, root=shop.whole.store.root, after=None)
    report = run(shop, "new")

    log = next(each for each in shop.runs() if each.id == report.run_id).logs or []
    assert said in describe(looks)
    assert any(said in str(line) for line in log)
    assert report.status == "unchanged"
    assert Path("/etc/passwd").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("b.csv", "shop/new/b.csv is not read: it cannot be read: Permission denied"),
        ("sub", "shop/new/sub is not read: this folder cannot be listed"),
    ],
)
def test_what_cannot_be_read_is_named_until_it_can(
    shop: Shop, name: str, said: str
) -> None:
    put(shop, "new", {name if name.endswith(".csv") else f"{name}/b.csv": MORE})
    (zone_folder(shop, "new") / name).chmod(0)

    os.seteuid(NOBODY)
    try:
        looks = look_around(shop.whole.metadata, root=shop.whole.store.root, after=None)
    finally:
        os.seteuid(0)

    assert describe(looks).endswith(said)
    assert looks.events == []


def test_two_uploads_of_one_name_are_not_one_file(shop: Shop, tmp_path: Path) -> None:
    for folder in ("january", "february"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "orders.csv").write_text(MORE)
    january, february = (
        str(tmp_path / each / "orders.csv") for each in ("january", "february")
    )

    together = call("upload", "shop/new", january, february)
    call("upload", "shop/new", january)
    again = call("upload", "shop/new", february)

    assert together.exit_code == 1
    assert together.stderr == (
        f"rat: {january} and {february} have one name, and a zone keeps one of them; "
        "rename one of the two\n"
    )
    assert again.stderr == "shop/new: orders.csv takes the place of an older one\n"


def test_one_name_in_two_folders_is_two_files(shop: Shop) -> None:
    path = f"{FOLDER}/deep/pipeline.sql"
    shop.publish({path: (READ % "deep").replace("*.csv", "**/*.csv")})
    put(shop, "deep", {"january/a.csv": GOOD, "february/a.csv": MORE})

    report = run(shop, "deep")

    assert (report.status, report.rows_total) == ("published", 3)
    assert committed(shop, "deep") == {"january/a.csv", "february/a.csv"}


def test_ten_thousand_files_are_seen_and_claimed_each_once(shop: Shop) -> None:
    count = 10_000
    put(shop, "new", {f"many-{n}.csv": f"id\n{n}\n" for n in range(count)})
    run_id = uuid.uuid4()

    shop.notice()
    with shop.whole.metadata.transaction() as tx:
        pipeline = next(
            each for each in releases.load(tx) if each.spec.table.name == "new"
        )
        tx.add(Run(id=run_id, pipeline_id=pipeline.pipeline_id))
        tx.flush()
        claimed = landing.claim(
            tx,
            namespace="shop",
            zones={"new": True},
            pipeline_id=pipeline.pipeline_id,
            version_id=pipeline.version_id,
            run_id=run_id,
        )
        held = select(func.count()).where(LandingClaim.run_id == run_id)

        assert len(claimed) == count
        assert tx.scalar(held) == count
        tx.rollback()
