"""What lines a street: buildings, gardens, walls, fences, hedges and trees, plot after plot."""

from __future__ import annotations

from functools import partial

import numpy as np

from data_pipelines.streets import furniture, plants
from data_pipelines.streets.draws import pick
from data_pipelines.streets.facades import Building
from data_pipelines.streets.stage import FRONTAGE, YARD, Stage, frame_at, in_view
from data_pipelines.streets.world import Scene

TOWN_TREES, CITY_TREES = {"tree": 0.78, "conifer": 0.16, "palm": 0.06}, {"tree": 0.5, "conifer": 0.15, "palm": 0.35}
END = 130.0  # metres of street that carry buildings


def frontage(rng: np.random.Generator, scene: Scene, stage: Stage, side: int) -> None:
    """Walk along one side and fill plot after plot."""
    zone, s = scene.zone[side], rng.uniform(1.3, 5)
    common = _common_look(rng, scene, zone)
    line = scene.edge(side) + side * max(scene.walk[side], 0.8)
    while s < END:
        length = {
            "downtown": rng.uniform(8, 26),
            "residential": rng.uniform(8, 18),
            "park": rng.uniform(10, 25),
            "works": rng.uniform(18, 45),
            "open": rng.uniform(12, 40),
        }[zone]
        length *= 1.0 if s < 60 else 1.7
        if scene.junction and s < scene.junction[1] + 3.2 and s + length > scene.junction[0] - 3.2 and side in scene.arms:
            if s > scene.junction[0] - 8:
                s = scene.junction[1] + 3.2
                continue
            length = scene.junction[0] - 3.2 - s
        _plot(rng, scene, stage, side, line, s, s + length, zone, common)
        s += length


def _common_look(rng: np.random.Generator, scene: Scene, zone: str) -> dict:
    city = scene.world == "city"
    return {
        "height": rng.uniform(9, 42) if city else rng.uniform(6, 20),
        "spread": rng.uniform(0.05, 0.4),
        "setback": rng.uniform(3, 9) if zone == "residential" else pick(rng, (0.0, 0.0, 3.0)),
        "fence": rng.random(4),
        "kind": pick(rng, CITY_TREES if city else TOWN_TREES),
        "bare": rng.random() < 0.1,
    }


def _plot(rng, scene: Scene, stage: Stage, side: int, line: float, s0: float, s1: float, zone: str, common: dict) -> None:
    draw = rng.random()
    built = {"downtown": 0.93, "residential": 0.86, "park": 0.08, "works": 0.6, "open": 0.1}[zone]
    setback = common["setback"] if zone != "works" else rng.uniform(2, 12)
    if draw < built:
        _building(
            rng,
            scene,
            stage,
            side,
            line + side * setback,
            s0,
            s1 - (rng.uniform(1, 5) if zone == "residential" else 0),
            zone,
            common,
        )
    if draw >= built or setback > 1.5:
        _boundary(rng, scene, stage, side, line + side * 0.2, s0, s1, zone, common)
    lawn = {"downtown": 0.0 if draw < built else 0.7, "residential": 0.55, "park": 1.0, "works": 0.3, "open": 0.5}[zone]
    deep = {"downtown": 5.0, "residential": max(setback - 1, 1.5), "park": 30.0, "works": 8.0, "open": 40.0}[zone]
    for _ in range(rng.poisson(lawn * (s1 - s0) / (4.0 if zone == "park" else 9.0))):
        away, s = rng.uniform(1.0, deep), rng.uniform(s0, s1)
        frame = frame_at(scene, line + side * away, s)
        if rng.random() < 0.55:
            kind = "bare" if common["bare"] else common["kind"] if rng.random() < 0.7 else "tree"
            stage.add(YARD, s + 0.2 * away, partial(_late, plants.tree, frame, rng.uniform(5, 14), kind))
        else:
            stage.add(YARD, s + 0.2 * away, partial(_late, plants.bush, frame, rng.uniform(0.8, 2.6), "bush"))


def _late(painter, frame, size, kind, canvas, rng) -> None:
    if in_view(canvas, frame.origin, 0.6 * size):
        painter(canvas, rng, frame, size, kind)


def _building(rng, scene: Scene, stage: Stage, side: int, u: float, s0: float, s1: float, zone: str, common: dict) -> None:
    s0, s1 = max(s0, 1.3), max(s1, s0 + 4)
    start, end = scene.points(u, s0), scene.points(u, s1)
    along = (end - start) / np.linalg.norm(end - start)
    away = side * np.array([along[2], 0, -along[0]])
    if zone == "residential" and scene.world == "town":
        height, roof, depth = rng.uniform(4.5, 7.5), "pitched" if rng.random() < 0.85 else "flat", rng.uniform(7, 11)
    elif zone == "works":
        height, roof, depth = rng.uniform(5, 12), "flat", rng.uniform(14, 30)
    else:
        height, depth = common["height"] * np.exp(rng.normal(0, common["spread"])), rng.uniform(9, 18)
        roof = "pitched" if rng.random() < (0.4 if scene.world == "town" else 0.05) and height < 16 else "flat"
    building = Building(rng, scene.world, start, end, away, float(np.clip(height, 3.5, 70)), depth, roof)
    before = stage.buildings[-1] if stage.buildings else None
    if before is not None and abs(before.end - start).max() < 0.1 and before.roof == "flat" and before.height >= building.height:
        building.side = False  # hidden by the neighbour
    stage.buildings.append(building)
    stage.add(FRONTAGE, s0, lambda canvas, _: building.paint(canvas))


def _boundary(rng, scene: Scene, stage: Stage, side: int, u: float, s0: float, s1: float, zone: str, common: dict) -> None:
    """Wall, fence, rail, hedge or nothing in front of a plot."""
    odds = {
        "downtown": (0.45, 0.3, 0.0, 0.1),
        "residential": (0.24, 0.3, 0.0, 0.22),
        "park": (0.1, 0.24, 0.0, 0.16),
        "works": (0.33, 0.4, 0.0, 0.05),
        "open": (0.08, 0.1, 0.34, 0.05),
    }[zone]
    kind = np.searchsorted(np.cumsum(odds), common["fence"][0] if rng.random() < 0.7 else rng.random())
    if kind > 3:
        return
    steps = np.linspace(s1, max(s0, 1.3), max(2, round((s1 - s0) / 18) + 1))
    lines = list(zip(scene.points(u, steps[:-1]), scene.points(u, steps[1:]), steps[1:], strict=True))
    height = (rng.uniform(0.7, 2.6), rng.uniform(0.9, 2.0), 0.8, rng.uniform(0.8, 2.0))[kind]
    paint = plants.hedge if kind == 3 else partial(furniture.barrier, kind=("wall", "fence", "rail")[kind])
    for far, near, s in lines:
        stage.add(YARD, s, partial(paint, far=far, near=near, height=height))
