"""Balanced work for persistent kernels over ragged batches: tasks, cuts, policies, the schedule, and its postcondition.

A family of kernels says which tasks a batch has (:mod:`~forerun.schedules.tasks`). A rule cuts long tasks into items
(:mod:`~forerun.schedules.cuts`), a policy gives the items to CTAs (:mod:`~forerun.schedules.policies`), and
:func:`~forerun.schedules.schedule.make_schedule` writes the flat arrays that a kernel reads. See docs/schedules.md.
"""
