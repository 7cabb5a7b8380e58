"""What stands along the kerb, walks on the pavement and moves on the road."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from data_pipelines.streets import furniture, heavy, people, plants, vehicles
from data_pipelines.streets.draws import pick
from data_pipelines.streets.stage import Stage, stand
from data_pipelines.streets.world import Scene

TRAFFIC = {vehicles.car: 0.82, heavy.truck: 0.08, heavy.bus: 0.06, people.motorcycle: 0.04}
CROSS_TRAFFIC = {vehicles.car: 0.72, heavy.truck: 0.1, heavy.bus: 0.1, heavy.train: 0.08}
ROOM = {heavy.truck: 6.5, heavy.bus: 7.5, heavy.train: 20.0}  # metres before and behind; 3 for all others
RADIUS = {heavy.truck: 7.0, heavy.bus: 7.5, heavy.train: 20.0, plants.tree: 7.0}  # metres; 3.5 for all others
STREET_TREES = {"tree": 0.8, "conifer": 0.02, "palm": 0.08, "bare": 0.1}


def _put(stage: Stage, scene: Scene, painter: Callable, u: float, s: float, turn: float, *rest) -> None:
    stand(stage, scene, painter, u, s, turn, *rest, radius=RADIUS.get(painter, 3.5))


def parked(rng: np.random.Generator, scene: Scene, stage: Stage, side: int) -> None:
    """Cars and now and then a lorry in the parking lane."""
    if not scene.parking[side]:
        return
    u, s, dense = scene.edge(side) - side * scene.parking[side] / 2, rng.uniform(3.5, 10), rng.uniform(0.3, 0.95)
    while s < 65:
        if rng.random() < dense and scene.free(s, 6):
            painter = vehicles.car if rng.random() < 0.95 else heavy.truck
            turn = (0.0 if side > 0 or rng.random() < 0.3 else np.pi) + rng.normal(0, 0.03)
            _put(stage, scene, painter, u, s, turn, False)
            s += 4.5 if painter is heavy.truck else 0.0
        s += rng.uniform(5.3, 6.8)


def kerbside(rng: np.random.Generator, scene: Scene, stage: Stage, side: int) -> None:
    """Lamps, poles, signs, bins and street trees."""
    edge = scene.edge(side)
    out = edge + side * 0.55
    far = edge + side * max(scene.walk[side] - 0.5, 0.9)
    lamp_gap, lamp_s = rng.uniform(18, 35), rng.uniform(4, 25)
    for s in np.arange(lamp_s, 90, lamp_gap) if rng.random() < 0.75 else ():
        _put(stage, scene, furniture.lamp, out, s, 0.0, -side * rng.uniform(0.8, 2.5))
    for _ in range(rng.poisson(2.2)):
        _put(stage, scene, furniture.pole, out if rng.random() < 0.7 else far, rng.uniform(5, 60), 0.0, 0.0)
    for _ in range(rng.poisson(1.3)):
        _put(stage, scene, furniture.sign, out, rng.uniform(5, 45), 0.0, 0.0)
    for _ in range(rng.poisson(0.5)):
        _put(stage, scene, furniture.bins, far, rng.uniform(5, 40), 0.0, 0.0)
    if scene.walk[side] > 2.4 and rng.random() < (0.42 if scene.zone[side] != "open" else 0.2):
        gap, kind, size = rng.uniform(6, 14), pick(rng, STREET_TREES), rng.uniform(4.5, 11)
        for s in np.arange(rng.uniform(5, 14), 85, gap):
            if scene.free(s, 2):
                where = s + rng.normal(0, 0.4)
                _put(stage, scene, plants.tree, edge + side, where, 0.0, size * rng.uniform(0.85, 1.15), kind)


def pavement(rng: np.random.Generator, scene: Scene, stage: Stage, side: int) -> None:
    """People, and bicycles and motorcycles left standing."""
    edge, width = scene.edge(side), max(scene.walk[side], 1.2)
    busy = rng.gamma(1.3, {"downtown": 3.2, "residential": 1.0, "park": 1.3, "works": 0.5, "open": 0.3}[scene.zone[side]])
    for _ in range(min(rng.poisson(busy), 14)):
        s, u = 4 + rng.gamma(2.0, 9.0), edge + side * rng.uniform(0.4, max(width - 0.3, 0.5))
        for k in range(1 + (rng.random() < 0.28)):
            turn = pick(rng, (0.0, np.pi)) + rng.normal(0, 0.6)
            _put(stage, scene, people.person, u + 0.55 * k, s + 0.15 * k, turn, rng.random() < 0.75)
    for _ in range(rng.poisson(0.75 if scene.zone[side] == "downtown" else 0.25)):
        painter = people.bicycle if rng.random() < 0.66 else people.motorcycle
        s, u, turn = rng.uniform(5, 28), edge + side * rng.uniform(0.5, width), pick(rng, (0.3, 1.57, -1.57)) + rng.normal(0, 0.3)
        for k in range(int(rng.integers(1, 5))):
            _put(stage, scene, painter, u + side * 0.1 * k, s + 0.75 * k, turn, False)


def traffic(rng: np.random.Generator, scene: Scene, stage: Stage) -> None:
    """Moving vehicles in the lanes, trams on their rails, riders near the kerb."""
    jam = rng.gamma(2.0, 0.5)
    for u, way in scene.lanes:
        tram = bool(scene.rails) and abs(u - np.mean(scene.rails)) < 0.5
        s = rng.uniform(7, 22) if abs(u - scene.ego) < 1 else rng.uniform(5, 30)
        while s < 90:
            s += rng.exponential(26 / max(jam, 0.3))
            painter = pick(rng, TRAFFIC)
            if tram and rng.random() < 0.4:
                painter = heavy.train
            room = ROOM.get(painter, 3.0)
            s += room
            _put(stage, scene, painter, u + rng.normal(0, 0.12), s, (0.0 if way > 0 else np.pi) + rng.normal(0, 0.02), True)
            s += room + 2
    for _ in range(rng.poisson(0.55)):
        side = pick(rng, (-1, 1))
        painter = people.bicycle if rng.random() < 0.72 else people.motorcycle
        u = scene.edge(side) - side * (scene.parking[side] + 0.7)
        _put(stage, scene, painter, u, 6 + rng.gamma(2.0, 7.0), (0.0 if side > 0 else np.pi) + rng.normal(0, 0.1), True)
    if scene.junction and rng.random() < 0.35:
        middle = sum(scene.junction) / 2
        painter = pick(rng, CROSS_TRAFFIC)
        _put(stage, scene, painter, rng.uniform(scene.left - 8, scene.right + 8), middle, pick(rng, (-1.57, 1.57)), True)


def crossing_people(rng: np.random.Generator, scene: Scene, stage: Stage) -> None:
    """People on crossings, and sometimes one who crosses elsewhere."""
    places = [s + rng.uniform(0, wide) for s, wide in scene.crossings for _ in range(rng.poisson(1.3))]
    if rng.random() < 0.12:
        places.append(rng.uniform(10, 30))
    for s in places:
        painter, turn = people.person if rng.random() < 0.9 else people.bicycle, pick(rng, (-1.57, 1.57))
        _put(stage, scene, painter, rng.uniform(scene.left, scene.right), s, turn, True)


def signals(rng: np.random.Generator, scene: Scene, stage: Stage) -> None:
    """Traffic lights around the junction, some of them with a second head above the road."""
    if not scene.junction or rng.random() < 0.35:
        return
    overhead = rng.random() < (0.7 if scene.world == "city" else 0.3)
    for side in (-1, 1):
        for s in (scene.junction[0] - 4.8, scene.junction[1] + 1.5):
            reach = -side * rng.uniform(2.5, 4.5) * overhead
            if rng.random() < 0.85:
                _put(stage, scene, furniture.traffic_light, scene.edge(side) + side * 0.5, s, 0.0, reach)
