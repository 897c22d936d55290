/**
 * What the API answers, as types: the same names as in node/page/models.py and round.py, which say
 * what each field means. tests/node/page/test_static.py compares them. Nothing here runs.
 */

/** @typedef {{as_of: number, served_from: string}} Answer */

/**
 * @typedef {object} Goodput
 * @property {number} text_tokens_per_s
 * @property {number | null} undisturbed_per_s
 * @property {number | null} ratio
 * @property {number} over_s
 */

/**
 * @typedef {object} Bytes
 * @property {Record<string, number>} sent
 * @property {Record<string, number>} received
 * @property {number} dense
 * @property {number | null} ratio
 */

/**
 * @typedef {object} Reach
 * @property {"reachable" | "not-reachable" | "unknown" | "local"} verdict
 * @property {"none" | "endpoint-independent" | "symmetric" | "unknown"} nat
 * @property {string[]} relays
 * @property {number} observers
 * @property {string} summary
 * @property {string} advice
 */

/**
 * @typedef {object} Node
 * @property {string} peer
 * @property {string} name
 * @property {string} version
 * @property {number} pid
 * @property {number} uptime_s
 * @property {string[]} addresses
 * @property {string} page_url
 * @property {string} compute
 * @property {number} restarts
 * @property {Reach | null} reach
 */

/**
 * @typedef {object} RunHeader
 * @property {string} run_id
 * @property {string} name
 * @property {string} phase
 * @property {number} phase_s
 * @property {number} round
 * @property {number} rounds
 * @property {number} view
 * @property {string | null} leader
 * @property {number} step
 * @property {number} steps
 * @property {boolean} finished
 * @property {number | null} eta_s
 * @property {number | null} started_at
 * @property {Goodput | null} goodput
 * @property {number} text_tokens
 * @property {number | null} loss
 * @property {number | null} val_loss
 * @property {number | null} val_loss_round
 * @property {number | null} val_loss_start
 * @property {number | null} unigram_entropy
 * @property {number} params
 * @property {string | null} state_digest
 * @property {number} digest_round
 * @property {string} head
 * @property {string | null} join_command
 * @property {string[]} waiting_for
 * @property {string | null} warning
 * @property {number} outer_lr
 * @property {boolean} outer_lr_ordered
 * @property {number} pending_orders
 * @property {boolean} may_order
 * @property {Bytes} bytes
 * @property {Record<string, number>} refused
 */

/**
 * @typedef {object} RunAnswer
 * @property {number} as_of
 * @property {string} served_from
 * @property {Node} node
 * @property {RunHeader | null} run
 */

/** @typedef {"alive" | "suspect" | "dead" | "left" | "joining" | "removed"} PeerState */
/** @typedef {"direct" | "relayed" | "unknown"} Link */

/**
 * @typedef {object} Peer
 * @property {string} peer
 * @property {string} name
 * @property {boolean} self
 * @property {PeerState} state
 * @property {string[]} evidence
 * @property {string} role
 * @property {boolean} in_roster
 * @property {boolean} leader
 * @property {boolean} owner
 * @property {boolean} standby
 * @property {string | null} removed_reason
 * @property {string | null} agent
 * @property {string | null} version
 * @property {string[]} addresses
 * @property {string[]} shards
 * @property {string | null} phase
 * @property {number | null} head_round
 * @property {number | null} behind
 * @property {number | null} step
 * @property {number | null} steps
 * @property {number | null} text_tokens_per_s
 * @property {number | null} loss
 * @property {number | null} up_bytes_per_s
 * @property {number | null} down_bytes_per_s
 * @property {number | null} sent_bytes
 * @property {number | null} received_bytes
 * @property {number | null} round_trip_ms
 * @property {Link} link
 * @property {number | null} reputation
 * @property {number | null} last_seen_s
 * @property {number} refused
 */

/**
 * @typedef {object} PeersAnswer
 * @property {number} as_of
 * @property {string} served_from
 * @property {Peer[]} peers
 */

/**
 * @typedef {object} Span
 * @property {string} name
 * @property {number} start_s
 * @property {number} duration_s
 */

/**
 * @typedef {object} Contribution
 * @property {string} peer
 * @property {string} name
 * @property {number | null} announced_s
 * @property {number | null} checked_s
 * @property {boolean | null} included
 * @property {boolean} late
 * @property {string | null} refused
 * @property {number | null} text_tokens
 * @property {number | null} loss
 * @property {number | null} bytes
 */

/**
 * @typedef {object} Waited
 * @property {string} peer
 * @property {number} duration_s
 */

/**
 * @typedef {object} Round
 * @property {number} round
 * @property {string | null} parent
 * @property {string | null} commit
 * @property {string | null} leader
 * @property {number} view
 * @property {number | null} started_at
 * @property {number | null} commit_s
 * @property {number | null} fetch_s
 * @property {number | null} apply_s
 * @property {number | null} duration_s
 * @property {Span[]} spans
 * @property {Contribution[]} contributions
 * @property {Waited[]} waited
 * @property {number | null} text_tokens
 * @property {number | null} total_text_tokens
 * @property {number | null} loss
 * @property {number | null} val_loss
 * @property {string | null} digest
 * @property {number | null} payload_bytes
 * @property {number | null} dense_bytes
 * @property {Record<string, number>} sent
 * @property {Record<string, number>} received
 */

/**
 * @typedef {object} RoundsAnswer
 * @property {number} as_of
 * @property {string} served_from
 * @property {Round[]} rounds
 * @property {boolean} more
 */

/** @typedef {"info" | "warning" | "error" | "recovered"} Severity */

/**
 * @typedef {object} TimelineEntry
 * @property {number} id
 * @property {number} time
 * @property {string} kind
 * @property {Severity} severity
 * @property {string | null} peer
 * @property {number | null} round
 * @property {string} text
 * @property {number | null} recovery_s
 */

/**
 * @typedef {object} TimelineAnswer
 * @property {number} as_of
 * @property {string} served_from
 * @property {TimelineEntry[]} entries
 */

/**
 * @typedef {object} LogEntry
 * @property {number} id
 * @property {number} time
 * @property {string} event
 * @property {string} text
 */

/**
 * @typedef {object} LogAnswer
 * @property {number} as_of
 * @property {string} served_from
 * @property {LogEntry[]} lines
 */

/**
 * @typedef {object} ShardPlan
 * @property {string} shard
 * @property {number} params
 * @property {string[]} hosts
 */

/**
 * @typedef {object} StagePlan
 * @property {string} peer
 * @property {string[]} shards
 * @property {number | null} first_block
 * @property {number | null} last_block
 */

/**
 * @typedef {object} ReplicaPlan
 * @property {string} name
 * @property {StagePlan[]} stages
 */

/**
 * @typedef {object} PlanAnswer
 * @property {number} as_of
 * @property {string} served_from
 * @property {number} round
 * @property {number} num_blocks
 * @property {ShardPlan[]} shards
 * @property {ReplicaPlan[]} replicas
 */

/**
 * @typedef {object} ReachableAnswer
 * @property {number} as_of
 * @property {string} served_from
 * @property {string} peer
 * @property {boolean} reachable
 * @property {number} took_ms
 * @property {Link} link
 * @property {string | null} code
 * @property {string | null} detail
 */

/**
 * @typedef {object} RemoveWish
 * @property {string} reason
 */

/**
 * @typedef {object} OuterLrWish
 * @property {number | null} value
 */

/**
 * @typedef {object} OrderAnswer
 * @property {number} as_of
 * @property {string} served_from
 * @property {number} sequence
 * @property {string | null} peer
 */

/**
 * @typedef {object} DoneAnswer
 * @property {number} as_of
 * @property {string} served_from
 * @property {boolean} paused
 */

/**
 * @typedef {object} Problem
 * @property {number} status
 * @property {string} title
 * @property {string} detail
 */

export {};
