"""The bridge to Ray: jobs run side by side on a machine or a cluster.

job             One training as it travels: a job to a worker, its reports back, its outcome to the
                records
cluster         Ray for one study: started on this machine, or the cluster that RAY_ADDRESS names
executor        Executes jobs side by side on Ray Tune, whatever decides which jobs those are
worker          The worker: trains one job after the other in a process that stays warm
searcher        The two ends of Ray Tune that face us: where its trials come from, and what it says
                of them
stopping        Early stopping: Ray Tune's schedulers, with what they lack here
early_stopping  What the search needs to know of early stopping without loading Ray
"""

from typing import TYPE_CHECKING

from attnsearch.blocks.face import face

if TYPE_CHECKING:
    from attnsearch.search.workers.cluster import (
        Cluster,
        ClusterError,
        Need,
        running_cluster,
        trials_here,
    )
    from attnsearch.search.workers.early_stopping import Curve, EarlyStopping, scheduler_name
    from attnsearch.search.workers.executor import execute
    from attnsearch.search.workers.job import (
        LOST,
        Evaluation,
        Job,
        Jobs,
        Outcome,
        Report,
        excess,
    )
    from attnsearch.search.workers.stopping import PerAct, make_scheduler

face(__name__)
