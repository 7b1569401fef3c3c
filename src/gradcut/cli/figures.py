"""The figures of 'gradcut evaluate' as tables."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from gradcut.catalogue import FAITHFULNESS
from gradcut.cli.options import out


def print_figures(title: str, labels: str, figures: dict[str, Any]) -> None:
    """The summary as tables that fit a terminal of 80 columns, and what they mean; --json has what they leave out."""
    from gradcut.evaluation.report import NAMES

    recipes = figures["recipes"]
    share = figures["bootstrap"]["confidence"]
    out.print(f"{title}, {labels} labels; {share:.0%} intervals over photographs", highlight=False)
    first = {"class IoU": "class_iou", "union IoU": "union_iou", "mIoU": "miou"}
    table = Table("recipe", "photographs", *first)
    for name, recipe in recipes.items():
        table.add_row(name, str(recipe["photographs"]), *(_figure(recipe[key]) for key in first.values()))
    out.print(table)
    for name, recipe in recipes.items():
        if recipe["blank"]:
            out.print(f"{name}: {recipe['blank']} without a mask, their saliency being blank", highlight=False)
    second = {
        "precision": "precision", "recall": "recall", "pixels right": "pixel_accuracy", "pointing": "pointing",
        "energy inside": "energy", "mAP": "map",
    }  # fmt: skip
    second = {title: key for title, key in second.items() if any(recipe[key]["n"] for recipe in recipes.values())}
    table = Table("recipe", *second)
    for name, recipe in recipes.items():
        table.add_row(name, *(_figure({**recipe[key], "interval": None}) for key in second.values()))
    out.print(table)
    if any("protocol" in recipe for recipe in recipes.values()):
        table = Table("ImageNet-Segmentation protocol", "pixels right", "mIoU", "mAP")
        for name, recipe in recipes.items():
            if "protocol" in recipe:
                table.add_row(name, *(_figure(recipe["protocol"][key]) for key in ("pixel_accuracy", "miou", "map")))
        out.print(table)
    for key, heading in (("by_size", "largest instance"), ("by_number", "number of instances")):
        groups = next(iter(recipes.values()))[key]
        for measure, of in (("class_iou", "class IoU"), ("union_iou", "union IoU")):
            heads = (f"{group}\nn = {by[measure]['n']}" for group, by in groups.items())
            table = Table(f"{of} by\n{heading}", *heads)
            for name, recipe in recipes.items():
                table.add_row(name, *(_figure(recipe[key][group][measure]) for group in groups))
            out.print(table)
    if figures["differences"]:
        table = Table("paired difference", *first)
        for entry in figures["differences"]:
            shown = (_figure(entry[key], sign="+") for key in first.values())
            table.add_row(" - ".join(entry["recipes"]), *shown)
        out.print(table)
    faithful = {name: recipe["faithfulness"] for name, recipe in recipes.items() if "faithfulness" in recipe}
    measures = [measure for measure in FAITHFULNESS if any(measure in of for of in faithful.values())]
    for number in range(0, len(measures), 3):  # so many fit beside two names
        few = measures[number : number + 3]
        table = Table("maps", *few)
        for name, of in faithful.items():
            table.add_row(name, *(_figure(of[measure]) if measure in of else "" for measure in few))
        out.print(table)
        table = Table("paired difference", *few)
        for entry in figures["differences"]:
            if (of := entry.get("faithfulness")) is not None:
                shown = (_figure(of[measure], sign="+") if measure in of else "" for measure in few)
                table.add_row(" - ".join(entry["recipes"]), *shown)
        if table.row_count:
            out.print(table)
    meant = dict(NAMES.values())
    for name in (*first, *second):
        out.print(f"{name}: {meant[name]}", highlight=False)
    for measure in measures:
        out.print(f"{measure}: {'; '.join(FAITHFULNESS[measure].split('; ')[:2])}", highlight=False)


def _figure(figure: dict[str, Any], sign: str = "") -> str:
    if figure["value"] is None:
        return ""
    value, interval = f"{figure['value']:{sign}.3f}", figure["interval"]
    return value if interval is None else f"{value}\n{interval[0]:{sign}.3f}..{interval[1]:{sign}.3f}"
