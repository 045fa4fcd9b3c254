// SPDX-License-Identifier: Apache-2.0

// Package imagepull has the controllers of NodeImage, ImagePullJob and ImageListPullJob (spec image-pulling).
//
// An ImagePullJob writes tasks into the NodeImages of its nodes, the agent of each node reports into the NodeImage's
// status, and the job sums that up. What is to be done is decided by pure functions, one file per rule:
//
//	targets.go    which NodeImages a job is about, and in which order
//	classify.go   what each of them says about the job's task
//	task.go       the task as a job writes it into a NodeImage, joins it and leaves it again
//	jobplan.go    the job as a whole: whom to push to, completion, deadline, status
//	secretplan.go copies of pull secrets in the agents' namespace
//	nodeplan.go   the NodeImage of a node: existence, labels, forgotten tasks, agents that do not answer
//	listplan.go   the jobs of an ImageListPullJob
//
// The files *_controller.go observe and act. Events of NodeImages are gathered for a second before the jobs they are
// about look at their nodes, so the work of a job is bounded by time and not by the number of events.
package imagepull
