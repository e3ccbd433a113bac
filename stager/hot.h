/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * stager/hot.h - which directories and files a pass had most to do with, in bounded memory.
 *
 * What is counted for a file is counted for its directory, and where there are too many
 * directories the small ones are counted for the one they lie in: totals stay exact, what gets
 * coarse is where.  So a thousand mailboxes show as the directory that holds them.  Of too many
 * files those that had least are forgotten.
 */
#include <stddef.h>
#include <stdint.h>

#include "common/bytes.h"
#include "common/error.h"

#define STG_HOT_ROWS 8192 /* directories, and files, that are counted at a time */
#define STG_HOT_TOP 32    /* that stg_hot_top() returns at most */

/*
 * What an entry costs besides its content, in bytes: about 8000 entries take as long as
 * 100 MB, on links where stager plan was measured.
 */
#define STG_ENTRY_COST_BYTES 12500

/*
 * What content costs that the target has already, against content that is sent: it is read and
 * hashed here and there.  Roughly so on a link of 250 Mbit/s; stager/forecast.h reckons with
 * the throughput that it knows.
 */
#define STG_MATCHED_COST 0.1

struct stg_hot; /* any thread may count; NULL counts nothing */

struct stg_hot_count {
	uint64_t literal; /* bytes that are sent */
	uint64_t matched; /* bytes that a delta found on the target */
	uint64_t entries; /* changed or deleted */
};

int stg_hot_new(struct stg_hot **ret, struct err *e) _must_check_;
void stg_hot_free(struct stg_hot *h);

/*
 * name in the directory at dir had so much work; without a name only the directory counts.  Memory that is lacking makes the count coarse, nothing else.
 */
void stg_hot_add(struct stg_hot *h, struct bytes dir, struct bytes name,
		 struct stg_hot_count what);

struct stg_hot_row {
	struct bytes path; /* the source root is empty; borrowed until the next add, or free */
	struct stg_hot_count count;
};

enum stg_hot_kind {
	STG_HOT_DIRS, /* less than a hundredth of all is counted for the directory above */
	STG_HOT_FILES,
	STG_HOT_KINDS,
};

/* The rows with most work, most first; their number.  No other thread counts any more. */
size_t stg_hot_top(struct stg_hot *h, enum stg_hot_kind kind, struct stg_hot_row ret[STG_HOT_TOP]);

/* All of it as one amount of work, in bytes sent; matched_cost as above. */
static inline double stg_hot_work(const struct stg_hot_count *c, double matched_cost)
{
	return (double)c->literal + (double)c->matched * matched_cost +
	       (double)c->entries * STG_ENTRY_COST_BYTES;
}

static inline void stg_hot_sum(struct stg_hot_count *to, const struct stg_hot_count *c)
{
	to->literal += c->literal;
	to->matched += c->matched;
	to->entries += c->entries;
}

static inline int stg_hot_is_zero(const struct stg_hot_count *c)
{
	return !c->literal && !c->matched && !c->entries;
}
