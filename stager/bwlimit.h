/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * stager/bwlimit.h - one limit on the rate of all sessions together (a token bucket).
 *
 * The bucket holds STG_BWLIMIT_BURST_MS worth of bytes at most, so that a burst after a pause
 * is short.  Any thread may call; NULL is no limit.
 */
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

#define STG_BWLIMIT_BURST_MS 50

struct stg_bwlimit;

int stg_bwlimit_new(uint64_t bytes_per_s, struct stg_bwlimit **ret, struct err *e) _must_check_;
void stg_bwlimit_free(struct stg_bwlimit *b);

/* Take up to want bytes: the count that may be written now, 0: none yet. */
size_t stg_bwlimit_take(struct stg_bwlimit *b, size_t want);
/* Give back what was taken and not written. */
void stg_bwlimit_return(struct stg_bwlimit *b, size_t n);
/* Milliseconds until a write of some of want bytes is worth trying; 0: now. */
int stg_bwlimit_pause_ms(struct stg_bwlimit *b, size_t want);
