"""The loan of landing files: a draft reads them where they lie, and none is claimed or copied.

What a run does instead is `rat_assets.intake`.
"""

import uuid
from dataclasses import dataclass, field, replace
from pathlib import Path

from rat_assets.computation import Computation
from rat_assets.drafts import Draft
from rat_resources import landing
from rat_resources.errors import LandingError
from rat_resources.landing_peek import Peek, choose, peek


@dataclass
class Loan:
    """What a draft reads of its landing zones."""

    draft: Draft
    work: Computation
    peeks: list[Peek] = field(default_factory=list)

    def choose(self, *, samples: bool) -> str:
        """Choose what is read of each zone; what its reader should know of the choice, or nothing."""
        work = self.work
        if not work.spec.zones:
            return ""
        self.peeks, anew = choose(
            self.look(), full_refresh=work.full_refresh, samples=samples
        )
        if not any(each.chosen for each in self.peeks):
            raise self.nothing(samples=samples)
        if not anew or work.full_refresh:
            return ""
        work.full_refresh = True
        return f"the table is made anew of {self.describe()}"

    def look(self) -> list[Peek]:
        """What lies in each zone, and what of it the pipeline has committed."""
        work = self.work
        with work.platform.metadata.transaction() as tx:
            return [
                peek(
                    tx,
                    work.name.namespace,
                    mention,
                    root=work.platform.store.root,
                    tree=self.draft.tree,
                    pipeline_id=work.pipeline.pipeline_id,
                )
                for mention in {zone.name: zone for zone in work.spec.zones}.values()
            ]

    def nothing(self, *, samples: bool) -> LandingError:
        """The error of zones in which there is nothing to read, with where it was looked for."""
        looked = self.look()
        names = ", ".join(str(each.zone) for each in looked)
        folders = [
            files.shown
            for each in looked
            for files in (*(() if samples else (each.files,)), *each.sample_files)
        ]
        first = looked[0]
        return LandingError(
            f"{self.draft.code_path}: there is no {'sample' if samples else 'file'} "
            f"in {names}; looked in {', '.join(folders)}",
            fix=f"put a sample into {first.sample_files[0].shown}, "
            f"or rat upload {first.zone} FILE",
        )

    def describe(self) -> str:
        """What a table made anew is made of, in words."""
        if any(each.is_sample for each in self.peeks):
            return "samples"
        return "all landing files, since none of them is new"

    def link(self) -> dict[str, Path]:
        """Link what was chosen to where the query expects its copies; the folders, by zone."""
        folders = {
            each.mention.name: self.work.staging / each.mention.name
            for each in self.peeks
        }
        for each in self.peeks:
            linked = each.link(folders[each.mention.name])
            zone = self.draft.described(each.zone)
            self.work.files += [replace(file, zone=zone) for file in linked]
        return folders

    def zone_of(self, name: str) -> landing.Zone:
        """A zone of the pipeline, published or not."""
        namespace = self.work.name.namespace
        with self.work.platform.metadata.transaction() as tx:
            zone = landing.get_zone(tx, namespace, name=name)
        return self.draft.described(zone or landing.Zone(uuid.uuid4(), namespace, name))
