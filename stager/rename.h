/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * stager/rename.h - what the source has under a new name, and the target under another.
 *
 * The scan asks for entries that the catalog has no row of.  Answers come from the catalog, from
 * looks at the source and from the rules; nothing is written but the leader of an inode.
 */
#include "stager/catalog.h"
#include "stager/job.h"
#include "stager/run.h"

/*
 * Has the target item's inode under a name that is gone from the source, and may it be moved to
 * item's name?  What is protected in a directory moves with it, unless a rule knows it by the
 * directory's path, the old or the new one.  1 and *ret, which has to be initialised and is
 * to be freed with stg_place_fini(); 0: it has to be sent.  -ENOMEM; else as
 * stg_catalog_find_inode(), stg_catalog_read_dir() and stg_filter_explain().
 */
int stg_rename_find(struct stg_run *run, struct stg_catalog_reader *reader,
		    const struct stg_item *item, struct stg_place *ret, struct err *e)
	_must_check_;

/*
 * A further name of an inode that the target has under another, which the source still has:
 * that one is looked at in this pass, for its ctime has changed, and this one is linked to it.
 * 0, also where there is no such name.  -ENOMEM; else as stg_catalog_find_inode(),
 * stg_filter_explain() and stg_catalog_offer_leader().
 */
int stg_rename_offer_leader(struct stg_run *run, struct stg_catalog_reader *reader,
			    const struct stg_stat *st, struct err *e) _must_check_;
