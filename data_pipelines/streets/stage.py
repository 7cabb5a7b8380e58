"""What stands and moves in a scene, as a list of things to paint, far to near within each layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from data_pipelines.streets import furniture, people, plants, vehicles
from data_pipelines.streets.canvas import Canvas
from data_pipelines.streets.draws import pick
from data_pipelines.streets.facades import Building, skyline
from data_pipelines.streets.solids import Frame
from data_pipelines.streets.world import Scene

BACKDROP, FRONTAGE, YARD, STREET = range(4)
TRAFFIC = {vehicles.car: 0.82, vehicles.truck: 0.08, vehicles.bus: 0.06, people.motorcycle: 0.04}
CROSS_TRAFFIC = {vehicles.car: 0.72, vehicles.truck: 0.1, vehicles.bus: 0.1, vehicles.train: 0.08}
TOWN_TREES, CITY_TREES = {"tree": 0.78, "conifer": 0.16, "palm": 0.06}, {"tree": 0.5, "conifer": 0.15, "palm": 0.35}
END = 150.0  # metres of street that carry buildings and things


@dataclass
class Stage:
    """The things of a scene: (layer, distance, paint(canvas, rng))."""

    things: list[tuple[int, float, Callable]] = field(default_factory=list)
    buildings: list[Building] = field(default_factory=list)

    def add(self, layer: int, distance: float, paint: Callable) -> None:
        self.things.append((layer, distance, paint))

    def paint(self, canvas, rng: np.random.Generator) -> None:
        for _, _, paint in sorted(self.things, key=lambda thing: (thing[0], -thing[1])):
            paint(canvas, rng)


def in_view(canvas: Canvas, point: np.ndarray, radius: float) -> bool:
    """Whether something within `radius` metres of a point can be in the picture (left and right only)."""
    x, _, z = canvas.camera.view(point)
    return z > 0.5 and abs(x) - radius < 1.05 * z * canvas.size[1] / (2 * canvas.camera.focal)


def set_stage(rng: np.random.Generator, scene: Scene) -> Stage:
    """Fill a street with everything that is not ground or sky."""
    stage = Stage()
    _backdrop(rng, scene, stage)
    for side in (-1, 1):
        _frontage(rng, scene, stage, side)
        _kerbside(rng, scene, stage, side)
        _pavement(rng, scene, stage, side)
    _traffic(rng, scene, stage)
    _crossing_people(rng, scene, stage)
    if scene.junction:
        _signals(rng, scene, stage)
    return stage


def frame_at(scene: Scene, u: float, s: float, turn: float = 0.0) -> Frame:
    """Frame of a thing at a place of the street, along the street plus a turn in radians."""
    return Frame(u + 0.5 * scene.bend * s * s, s, math.atan(scene.bend * s) + turn)


def _thing(stage: Stage, scene: Scene, painter: Callable, u: float, s: float, turn: float, *rest) -> None:
    frame = frame_at(scene, u, s, turn)
    radius = 18.0 if painter is vehicles.train else 7.0 if painter in (vehicles.bus, vehicles.truck, plants.tree) else 3.5
    stage.add(STREET, s, lambda canvas, rng: painter(canvas, rng, frame, *rest) if in_view(canvas, frame.origin, radius) else None)


def _backdrop(rng: np.random.Generator, scene: Scene, stage: Stage) -> None:
    tall = 60 if scene.world == "city" else 26
    if rng.random() < 0.75:
        stage.add(BACKDROP, 420, partial(skyline, distance=420.0, heights=(10.0, rng.uniform(20, tall * 1.5)), density=rng.uniform(0.4, 1.0)))
    if rng.random() < 0.75:
        stage.add(BACKDROP, 300, partial(plants.woods, distance=300.0, height=rng.uniform(7, 22)))
    if rng.random() < 0.5:
        stage.add(BACKDROP, 210, partial(skyline, distance=210.0, heights=(6.0, rng.uniform(9, tall)), density=rng.uniform(0.3, 0.9)))


def _frontage(rng: np.random.Generator, scene: Scene, stage: Stage, side: int) -> None:
    """Walk along one side and fill plot after plot."""
    zone, s = scene.zone[side], rng.uniform(1.3, 5)
    common = _common_look(rng, scene, zone)
    line = scene.edge(side) + side * max(scene.walk[side], 0.8)
    while s < END:
        length = {"downtown": rng.uniform(8, 26), "residential": rng.uniform(8, 18), "park": rng.uniform(10, 25), "works": rng.uniform(18, 45), "open": rng.uniform(12, 40)}[zone]
        if scene.junction and s < scene.junction[1] + 3.2 and s + length > scene.junction[0] - 3.2 and side in scene.arms:
            if s > scene.junction[0] - 8:
                s = scene.junction[1] + 3.2
                continue
            length = scene.junction[0] - 3.2 - s
        _plot(rng, scene, stage, side, line, s, s + length, zone, common)
        s += length


def _common_look(rng: np.random.Generator, scene: Scene, zone: str) -> dict:
    city = scene.world == "city"
    return {"height": rng.uniform(9, 42) if city else rng.uniform(6, 20), "spread": rng.uniform(0.05, 0.4), "setback": rng.uniform(3, 9) if zone == "residential" else pick(rng, (0.0, 0.0, 3.0)),
            "fence": rng.random(4), "kind": pick(rng, CITY_TREES if city else TOWN_TREES), "bare": rng.random() < 0.1}


def _plot(rng, scene: Scene, stage: Stage, side: int, line: float, s0: float, s1: float, zone: str, common: dict) -> None:
    draw = rng.random()
    built = {"downtown": 0.93, "residential": 0.86, "park": 0.08, "works": 0.6, "open": 0.1}[zone]
    setback = common["setback"] if zone != "works" else rng.uniform(2, 12)
    if draw < built:
        _building(rng, scene, stage, side, line + side * setback, s0, s1 - (rng.uniform(1, 5) if zone == "residential" else 0), zone, common)
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
    odds = {"downtown": (0.45, 0.3, 0.0, 0.1), "residential": (0.24, 0.3, 0.0, 0.22), "park": (0.1, 0.24, 0.0, 0.16), "works": (0.33, 0.4, 0.0, 0.05), "open": (0.08, 0.1, 0.34, 0.05)}[zone]
    kind = np.searchsorted(np.cumsum(odds), common["fence"][0] if rng.random() < 0.7 else rng.random())
    if kind > 3:
        return
    steps = np.linspace(s1, max(s0, 1.3), max(2, int((s1 - s0) / 5) + 1))
    points = scene.points(u, steps)
    height = (rng.uniform(0.7, 2.6), rng.uniform(0.9, 2.0), 0.8, rng.uniform(0.8, 2.0))[kind]
    if kind == 3:
        stage.add(YARD, s0, lambda canvas, paint: plants.hedge(canvas, paint, points, height))
    else:
        name = ("wall", "fence", "rail")[kind]
        stage.add(YARD, s0, lambda canvas, paint: furniture.barrier(canvas, paint, points, name, height))


def _kerbside(rng: np.random.Generator, scene: Scene, stage: Stage, side: int) -> None:
    """Parked vehicles, street trees, lamps, poles, signs and bins."""
    edge, zone = scene.edge(side), scene.zone[side]
    if scene.parking[side]:
        s, dense = rng.uniform(3.5, 10), rng.uniform(0.3, 0.95)
        while s < 75:
            if rng.random() < dense and scene.free(s, 6):
                draw = rng.random()
                painter = vehicles.car if draw < 0.95 else vehicles.truck
                turn = (0.0 if side > 0 or rng.random() < 0.3 else np.pi) + rng.normal(0, 0.03)
                _thing(stage, scene, painter, edge - side * (scene.parking[side] / 2), s, turn, False)
                s += 4.5 if painter is vehicles.truck else 0.0
            s += rng.uniform(5.3, 6.8)
    out = edge + side * 0.55
    far = edge + side * max(scene.walk[side] - 0.5, 0.9)
    lamp_gap, lamp_s = rng.uniform(18, 35), rng.uniform(4, 25)
    for s in np.arange(lamp_s, 110, lamp_gap) if rng.random() < 0.75 else ():
        _thing(stage, scene, furniture.lamp, out, s, 0.0, -side * rng.uniform(0.8, 2.5))
    for _ in range(rng.poisson(2.2)):
        _thing(stage, scene, furniture.pole, out if rng.random() < 0.7 else far, rng.uniform(5, 60), 0.0, 0.0)
    for _ in range(rng.poisson(1.3)):
        _thing(stage, scene, furniture.sign, out, rng.uniform(5, 45), 0.0, 0.0)
    for _ in range(rng.poisson(0.5)):
        _thing(stage, scene, furniture.bins, far, rng.uniform(5, 40), 0.0, 0.0)
    if scene.walk[side] > 2.4 and rng.random() < (0.42 if zone != "open" else 0.2):
        gap, kind, size = rng.uniform(6, 14), pick(rng, {"tree": 0.8, "conifer": 0.02, "palm": 0.08, "bare": 0.1}), rng.uniform(4.5, 11)
        for s in np.arange(rng.uniform(5, 14), 110, gap):
            if scene.free(s, 2):
                _thing(stage, scene, plants.tree, edge + side * 1.0, s + rng.normal(0, 0.4), 0.0, size * rng.uniform(0.85, 1.15), kind)


def _pavement(rng: np.random.Generator, scene: Scene, stage: Stage, side: int) -> None:
    """People, and bicycles and motorcycles left standing."""
    edge, width = scene.edge(side), max(scene.walk[side], 1.2)
    busy = rng.gamma(1.3, {"downtown": 3.2, "residential": 1.0, "park": 1.3, "works": 0.5, "open": 0.3}[scene.zone[side]])
    for _ in range(min(rng.poisson(busy), 14)):
        s, u = 4 + rng.gamma(2.0, 9.0), edge + side * rng.uniform(0.4, max(width - 0.3, 0.5))
        for k in range(1 + (rng.random() < 0.28)):
            _thing(stage, scene, people.person, u + 0.55 * k, s + 0.15 * k, pick(rng, (0.0, np.pi)) + rng.normal(0, 0.6), rng.random() < 0.75)
    for _ in range(rng.poisson(0.75 if scene.zone[side] == "downtown" else 0.25)):
        painter = people.bicycle if rng.random() < 0.66 else people.motorcycle
        s, u, turn = rng.uniform(5, 28), edge + side * rng.uniform(0.5, width), pick(rng, (0.3, 1.57, -1.57)) + rng.normal(0, 0.3)
        for k in range(int(rng.integers(1, 5))):
            _thing(stage, scene, painter, u + side * 0.1 * k, s + 0.75 * k, turn, False)


def _traffic(rng: np.random.Generator, scene: Scene, stage: Stage) -> None:
    """Moving vehicles in the lanes, trams on their rails, riders near the kerb."""
    jam = rng.gamma(2.0, 0.5)
    for u, way in scene.lanes:
        tram = bool(scene.rails) and abs(u - np.mean(scene.rails)) < 0.5
        s = rng.uniform(7, 22) if abs(u - scene.ego) < 1 else rng.uniform(5, 30)
        while s < 110:
            s += rng.exponential(26 / max(jam, 0.3))
            painter = pick(rng, TRAFFIC)
            if tram and rng.random() < 0.4:
                painter = vehicles.train
            room = {vehicles.truck: 6.5, vehicles.bus: 7.5, vehicles.train: 20.0}.get(painter, 3.0)
            s += room
            _thing(stage, scene, painter, u + rng.normal(0, 0.12), s, (0.0 if way > 0 else np.pi) + rng.normal(0, 0.02), True)
            s += room + 2
    for _ in range(rng.poisson(0.55)):
        side = pick(rng, (-1, 1))
        painter = people.bicycle if rng.random() < 0.72 else people.motorcycle
        u = scene.edge(side) - side * (scene.parking[side] + 0.7)
        _thing(stage, scene, painter, u, 6 + rng.gamma(2.0, 7.0), (0.0 if side > 0 else np.pi) + rng.normal(0, 0.1), True)
    if scene.junction and rng.random() < 0.35:
        middle = sum(scene.junction) / 2
        painter = pick(rng, CROSS_TRAFFIC)
        _thing(stage, scene, painter, rng.uniform(scene.left - 8, scene.right + 8), middle, pick(rng, (-1.57, 1.57)), True)


def _crossing_people(rng: np.random.Generator, scene: Scene, stage: Stage) -> None:
    for s, wide in scene.crossings:
        for _ in range(rng.poisson(1.3)):
            painter = people.person if rng.random() < 0.9 else people.bicycle
            _thing(stage, scene, painter, rng.uniform(scene.left, scene.right), s + rng.uniform(0, wide), pick(rng, (-1.57, 1.57)), True)
    if rng.random() < 0.12:
        _thing(stage, scene, people.person, rng.uniform(scene.left, scene.right), rng.uniform(10, 30), pick(rng, (-1.57, 1.57)), True)


def _signals(rng: np.random.Generator, scene: Scene, stage: Stage) -> None:
    if rng.random() < 0.35:
        return
    overhead = rng.random() < (0.7 if scene.world == "city" else 0.3)
    for side in (-1, 1):
        for s in (scene.junction[0] - 4.8, scene.junction[1] + 1.5):
            if rng.random() < 0.85:
                _thing(stage, scene, furniture.traffic_light, scene.edge(side) + side * 0.5, s, 0.0, -side * rng.uniform(2.5, 4.5) * overhead)
