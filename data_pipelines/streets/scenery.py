"""Fills a street: backdrop, both sides, and what moves."""

from __future__ import annotations

from functools import partial

import numpy as np

from data_pipelines.streets import life, plants
from data_pipelines.streets.facades import skyline
from data_pipelines.streets.frontage import frontage
from data_pipelines.streets.stage import BACKDROP, Stage
from data_pipelines.streets.world import Scene


def set_stage(rng: np.random.Generator, scene: Scene) -> Stage:
    """Fill a street with everything that is not ground or sky."""
    stage = Stage()
    _backdrop(rng, scene, stage)
    for side in (-1, 1):
        frontage(rng, scene, stage, side)
        life.parked(rng, scene, stage, side)
        life.kerbside(rng, scene, stage, side)
        life.pavement(rng, scene, stage, side)
    life.traffic(rng, scene, stage)
    life.crossing_people(rng, scene, stage)
    life.signals(rng, scene, stage)
    return stage


def _backdrop(rng: np.random.Generator, scene: Scene, stage: Stage) -> None:
    tall = 60 if scene.world == "city" else 26
    if rng.random() < 0.75:
        stage.add(
            BACKDROP,
            420,
            partial(skyline, distance=420.0, heights=(10.0, rng.uniform(20, tall * 1.5)), density=rng.uniform(0.4, 1.0)),
        )
    if rng.random() < 0.75:
        stage.add(BACKDROP, 300, partial(plants.woods, distance=300.0, height=rng.uniform(7, 22)))
    if rng.random() < 0.5:
        stage.add(
            BACKDROP, 210, partial(skyline, distance=210.0, heights=(6.0, rng.uniform(9, tall)), density=rng.uniform(0.3, 0.9))
        )
