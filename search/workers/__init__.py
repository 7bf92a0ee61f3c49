"""The bridge to Ray: jobs run side by side on a machine or a cluster.

job          One training as it travels: a job to a worker, its reports back, its outcome to the
             records
cluster      Ray for one study: started on this machine, or the cluster that is joined
nodes        The machines of a Ray that was joined: which can take part, and which are there by now
folder       The folder in which a study's Ray lives, and who removes it in the end
caretaker    Outlives a driver that is killed: ends what runs in its folder, and removes the folder
executor     Executes jobs side by side on Ray Tune, whatever decides which jobs those are
worker       The worker: trains one job after the other in a process that stays warm
searcher     The two ends of Ray Tune that face us: where its trials come from, and what it says of
             them
losses       Why a training failed or its process was lost, in words
keeper       Saving a training while it goes on, so that whatever ends it costs little of it
packing      How many trials a card takes: found with real training steps, before a study's first
             run
replicas     Trainings of one arm in one process: each takes a step in its turn, as if it were
             alone
siblings     The other processes of a trial that trains on several cards
pace         How long a step of a job may take, learnt from those that were taken
watchdog     Where a step stands that takes long, written again and again, so that a hang has a
             place
stopping     Early stopping: which of the trials that run are not worth their full schedule
turns        Taking turns on one machine: trainings run side by side, a measurement of time runs
             alone
ray_private  Every reach into Ray's private parts
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:
    from attnsearch.search.workers.cluster import (
        AUTO,
        LEAST_SHARE,
        Cluster,
        ClusterError,
        Need,
        has_cards,
        running_cluster,
        trials_a_card,
        trials_here,
        with_need,
    )
    from attnsearch.search.workers.executor import execute
    from attnsearch.search.workers.job import (
        LOST,
        MACHINE_LOST,
        Evaluation,
        Job,
        Jobs,
        Outcome,
        Report,
        has_user_code,
    )
    from attnsearch.search.workers.nodes import all_folders, examined, offered
    from attnsearch.search.workers.pace import PAUSE_SECONDS
    from attnsearch.search.workers.packing import Packing, RayCard, pack
    from attnsearch.search.workers.stopping import SCHEDULERS, scheduler_name, should_stop
    from attnsearch.search.workers.turns import known_times
    from attnsearch.search.workers.worker import Worker

face(__name__)
