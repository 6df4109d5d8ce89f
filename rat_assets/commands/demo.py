"""The demo as a play: files land, gold comes out, and a broken file is stopped.

The files are `rat_assets.demo`'s. Playing it again finds nothing new, and says so.
"""

import sys
from calendar import month_abbr
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import TextIO

from rat_assets import actions, demo, runner
from rat_assets.commands import running
from rat_assets.commands.display import count, duration, plural, table_lines
from rat_assets.commands.opening import open_platform
from rat_assets.demo import BATCHES, LandingFile
from rat_assets.runner import RunAsk, RunReport, TableReport
from rat_resources import code_server
from rat_resources.errors import NotFoundError
from rat_resources.instance import open_instance
from rat_resources.lake.refs import MAIN
from rat_resources.mirror import log
from rat_resources.names import TableName
from rat_resources.platform import Platform

NAMESPACE = "nyc"
FLIGHTS = TableName(NAMESPACE, "bronze", "flights")
ALL_FLIGHTS = 336_776
LANDING = f"{NAMESPACE}/landing/"
SECOND = 1000  # milliseconds
NEXT = """\
What to do next:
  rat query "FROM nyc.gold.route_performance ORDER BY flights DESC LIMIT 5"
  rat runs                    what happened; `rat runs RUN` shows one in full
  rat report nyc.gold.route_performance --out routes.png
  rat tables                  where the tables are, for Spark, Trino or DuckDB
  rat dev                     the UI; then drop a file into
                              {landing}
"""


@dataclass
class Play:
    """One performance, and whether everything went as it should."""

    whole: Platform
    screen: TextIO
    went_well: bool = True
    spent: dict[TableName, int] = field(default_factory=lambda: defaultdict(int))
    newest: dict[TableName, TableReport] = field(default_factory=dict)

    @property
    def landing(self) -> str:
        """Where the demo's landing zones are."""
        return f"{self.whole.settings.store}/{LANDING}"

    @contextmanager
    def scene(self, title: str) -> Iterator[None]:
        """One part of the play, with its title and its time."""
        self.say(f"── {title}")
        started = perf_counter()
        yield
        self.say(f"   {duration(round((perf_counter() - started) * 1000))}\n")

    def say(self, text: str) -> None:
        """Print a line at once."""
        self.screen.write(f"{text}\n")
        self.screen.flush()

    def expect(self, *, claim: bool, otherwise: str) -> None:
        """Note, and say, when something did not go as it should."""
        if not claim:
            self.went_well = False
            self.say(f"✘ this should not be: {otherwise}")

    # The scenes.

    def publish(self) -> None:
        """Make the example current."""
        with self.scene("publish examples/nyc_flights"):
            release = actions.publish(
                self.whole, demo.example_folder(), message="the demo"
            )
            changed = len(release.created) + len(release.changed)
            self.say(
                f"release {release.number}: {plural(changed, 'pipeline')} changed, "
                f"{plural(len(release.unchanged), 'pipeline')} unchanged"
            )
            if release.is_new:
                code_server.reload(self.whole.settings)

    def clear_away(self) -> None:
        """Take out of its zone the broken file of a play that was cut off."""
        broken = demo.broken_file()
        key = f"{LANDING}{broken.zone}/{broken.name}"
        if not self.whole.store.exists(key):
            return
        try:
            self.reject(broken)
        except NotFoundError:
            # That play ended before anybody had looked at the file.
            self.whole.store.delete(key)

    def run_batch(self, months: Sequence[int]) -> None:
        """Land some months and bring them to gold."""
        first, last = month_abbr[months[0]], month_abbr[months[-1]]
        span = first if first == last else f"{first}-{last}"
        with self.scene(f"land {span} 2013, run bronze → silver → gold"):
            self.land(
                [
                    *demo.reference_files(),
                    *(file for month in months for file in demo.month_files(month)),
                ]
            )
            report = self.run(RunAsk((NAMESPACE,), only_changed=True))
            self.expect(
                claim=report.succeeded,
                otherwise="not every table was published; see `rat runs`",
            )

    def stop_broken_file(self) -> None:
        """Land a broken file, and see that nobody ever reads it."""
        broken = demo.broken_file()
        refs = self.whole.lake.refs
        with self.scene(f"land a broken file, {broken.name}: the tests must stop it"):
            before = refs.head(MAIN)
            self.land([broken])
            report = self.run(RunAsk((str(FLIGHTS),)), expected="failed")
            after = refs.head(MAIN)
            self.expect(
                claim=[each.status for each in report.tables] == ["failed"],
                otherwise="the tests did not stop the broken file; see `rat runs`",
            )
            self.expect(claim=before == after, otherwise="main has moved")
            self.say(f"main before: {before[:12]}, main after: {after[:12]}")
            self.reject(broken)

    def draw_reports(self) -> None:
        """Draw the platform's reports, which a clock does under `rat dev`."""
        with self.scene("draw the reports"), open_instance() as instance:
            self.expect(
                claim=runner.draw_reports(instance),
                otherwise="a report could not be drawn; see its run in the UI",
            )
            log.try_to_catch_up(self.whole.metadata)
            self.say("`rat report` lists them")

    def end(self) -> None:
        """Show what stands on main, and what to do next."""
        self.expect(
            claim=self.newest[FLIGHTS].rows_total == ALL_FLIGHTS,
            otherwise=f"{FLIGHTS} has not the {ALL_FLIGHTS:,} flights of the year",
        )
        rows = [
            (
                str(each.table),
                count(each.rows_total) if each.snapshot_id else "",
                f"{each.passed}/{each.warned}/{each.failed}",
                f"{self.spent[each.table] / SECOND:.1f}",
                str(each.snapshot_id or "(a view)"),
            )
            for each in self.newest.values()
        ]
        columns = ("table", "rows", "tests passed/warned/failed", "seconds", "snapshot")
        for line in table_lines(columns, rows):
            self.say(line)
        self.say("")
        self.say(NEXT.format(landing=f"{self.landing}flights"))

    # What they are made of.

    def land(self, files: Sequence[LandingFile]) -> None:
        """Drop files into their zones, those that are not there already."""
        landed = [
            file
            for file in files
            if self.whole.store.write_changed(
                f"{LANDING}{file.zone}/{file.name}", file.content
            )
        ]
        there = len(files) - len(landed)
        verb = "was" if there == 1 else "were"
        known = f", {there} {verb} there already" if there else ""
        self.say(f"{plural(len(landed), 'file')} dropped{known}")

    def reject(self, file: LandingFile) -> None:
        """Take a file out of its zone."""
        zone = f"{NAMESPACE}/{file.zone}"
        actions.reject(self.whole, zone, file=file.name)
        self.say(f"rat reject {zone} {file.name}: the zone is clean again")

    def run(self, ask: RunAsk, *, expected: str = "") -> RunReport:
        """Run something before everybody's eyes."""
        with running.streaming(self.screen) as stream:
            report, stopped = running.run_ask(self.whole, ask)
            stream.end_line()
        # Who ends the play while a step ends by itself has stopped it all the same.
        if stopped or any(each.status == "cancelled" for each in report.tables):
            raise KeyboardInterrupt
        for each in report.tables:
            self.spent[each.table] += each.ms or 0
            if not expected:
                self.newest[each.table] = each
            if each.status not in ("published", "unchanged", expected):
                self.say(running.describe(each))
        told = [
            plural(sum(each.status == status for each in report.tables), "table")
            + f" {status}"
            for status in ("published", "unchanged", "failed", "skipped", "cancelled")
            if any(each.status == status for each in report.tables)
        ]
        self.say(", ".join(told))
        return report


def play() -> int:
    """Play the demo; 0 when everything went as it should."""
    whole = open_platform()
    started = perf_counter()
    with running.terminal() as screen:
        performance = Play(whole, screen)
        performance.publish()
        performance.clear_away()
        for months in BATCHES:
            performance.run_batch(months)
        performance.stop_broken_file()
        performance.draw_reports()
        performance.end()
        took = duration(round((perf_counter() - started) * 1000))
        performance.say(f"{took} in all; state is in {whole.settings.home}")
    sys.stdout.flush()
    return 0 if performance.went_well else 1
