/* SPDX-License-Identifier: Apache-2.0 */
/* Network cards, ports, programs, SELinux, privileges, clock, target. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/sha256.h"
#include "tests/unit/chk_rows.h"

#define NIC(name, mac) { "sys/class/net/" name "/address", mac "\n" }
#define CARD(name, mac) NIC(name, mac), { "sys/class/net/" name "/device/vendor", "" }
#define MASTER(name, of) { "sys/class/net/" name "/master", "->../" of }
#define MAC1 "52:54:00:00:00:01"
#define MAC2 "52:54:00:00:00:02"

static void macs_must_be_unique_and_only_cards_count(void **state)
{
	static const char *const same[] = { "02:00:00:00:00:99", "5254.0000.0001", NULL };
	static const struct err refused = { -ERR_AUTH, "other sources: HTTP 401" };
	static const char *const strangers[] = { "02:00:00:00:00:99", "nonsense", "5254000000010", NULL };
	static const struct chk_case cases[] = {
		{ "MAC", CHK_OK, "", "unique on this host", { CARD("eth0", MAC1), CARD("eth1", MAC2) } },
		{ "MAC", CHK_WARN, "", "eth0 and eth1 have the same MAC " MAC1, { CARD("eth0", MAC1), CARD("eth1", MAC1) } },
		{ "MAC", CHK_ERROR, "", "another source already has the MAC " MAC1 " of eth0",
		  { CARD("eth0", MAC1) }, .opts.known_macs = same },
		{ "MAC", CHK_OK, "", "among the sources of SMS", { CARD("eth0", MAC1) }, .opts.known_macs = strangers },
		/* What could not be asked is not unique; what is known counts all the same. */
		{ "MAC", CHK_WARN, "", "could not tell: other sources: HTTP 401", { CARD("eth0", MAC1) }, .untold = true,
		  .live = true, .opts.known_macs = strangers, .opts.known_macs_why = &refused },
		{ "MAC", CHK_ERROR, "", "another source already has", { CARD("eth0", MAC1) },
		  .live = true, .opts.known_macs = same, .opts.known_macs_why = &refused },
		/* Bridges, VLANs, macvlans and the other ends of containers share or invent theirs. */
		{ "MAC", CHK_OK, "", "unique",
		  { CARD("eth0", MAC1), NIC("br0", MAC1), NIC("eth0.5", MAC1), NIC("veth1", MAC2), NIC("veth2", MAC2),
		    NIC("macvlan0", MAC1), NIC("lo", "00:00:00:00:00:00"), { "sys/class/net/bonding_masters", "bond0\n" } } },
		/* Slaves wear the bond's address; sysfs or the driver has their own. */
		{ "MAC", CHK_OK, "", "unique",
		  { CARD("eth0", MAC1), CARD("eth1", MAC1), NIC("bond0", MAC1), MASTER("eth0", "bond0"), MASTER("eth1", "bond0"),
		    { "sys/class/net/eth0/bonding_slave/perm_hwaddr", MAC1 "\n" },
		    { "sys/class/net/eth1/bonding_slave/perm_hwaddr", "52:54:00:00:00:0A\n" } } },
		{ "MAC", CHK_OK, "", "unique",
		  { CARD("eth0", MAC1), CARD("eth1", MAC1), NIC("team0", MAC1), MASTER("eth1", "team0") },
		  .fake.permanent_mac = MAC2 },
		{ "MAC", CHK_WARN, "", "eth0 and eth1",
		  { CARD("eth0", MAC1), CARD("eth1", MAC1), NIC("team0", MAC1), MASTER("eth1", "team0") } },
		/* The lower half of a pair (Hyper-V's virtual function) is the same card. */
		{ "MAC", CHK_OK, "", "unique", { CARD("eth0", MAC1), CARD("enP1", MAC1), MASTER("enP1", "eth0") } },
		/* In a container there is no card. */
		{ "MAC", CHK_OK, "", "unique", { NIC("eth0", MAC1), NIC("tap0", MAC1) },
		  .fake.address = { { "eth0", "10.0.0.2", "255.0.0.0" } } },
		{ "MAC", CHK_ERROR, "", "no network card with a MAC", { NIC("lo", "00:00:00:00:00:00") } },
		{ "MAC", CHK_ERROR, "", "no network card with a MAC", { CARD("eth0", "00:00:00:00:00:00") } },
		{ "MAC", CHK_WARN, "", "/sys/class/net", { { "etc", DIRECTORY } }, .untold = true },
	};
	char digest[SHA256_HEX_SIZE];
	const char *const hashed[] = { digest, NULL };
	struct fixture *f = *state;
	struct chk_case c = { "MAC", CHK_ERROR, "", "another source", { CARD("eth0", MAC1) }, .opts.known_macs = hashed };

	run_cases(f, cases, ARRAY_SIZE(cases));
	sha256_hex(digest, bytes_str(MAC1));
	run_cases(f, &c, 1);
}

static void interfaces_come_with_addresses_and_the_default_first(void **state)
{
	static const struct chk_case c = { "", 0, "", "", {
		CARD("eth0", MAC1), CARD("eth1", MAC2), NIC("veth9", MAC2), NIC("br0", MAC2),
		{ "sys/class/net/eth1/mtu", "9000\n" },
		{ "proc/net/route", "Iface\tDestination\tGateway\nbr0\t00000000\t0100000A\teth1\n"
				    "eth0\t0000000A\t00000000\n" } } };
	struct fake k = { .address = { { "br0", "10.0.0.5", "255.255.255.0" }, { "br0", "fe80::1", "", "6" },
				       { "br0", "2001:db8::5", "", "6" }, { "eth1", "192.0.2.7", "255.255.0.0" } } };
	struct chk_sys sys = fake_sys(&k);
	struct fixture *f = *state;
	struct chk_facts *facts = NULL;
	struct err e = { 0 };

	case_plant(f, &c);
	assert_int_equal(chk_facts_collect(&f->root, &sys, &facts, &e), 0);
	assert_int_equal(facts->n_nics, 3); /* without the idle veth */
	assert_string_equal(facts->nics[0].name, "br0");
	assert_string_equal(facts->nics[0].gateway, "10.0.0.1");
	assert_string_equal(facts->nics[0].ip, "10.0.0.5");
	assert_string_equal(facts->nics[0].netmask, "255.255.255.0");
	assert_string_equal(facts->nics[0].ipv6, "2001:db8::5");
	assert_int_equal(facts->nics[0].kind, CHK_NIC_VIRTUAL);
	assert_string_equal(facts->nics[1].name, "eth0");
	assert_string_equal(facts->nics[1].ip, "");
	assert_string_equal(facts->nics[2].ip, "192.0.2.7");
	assert_int_equal(facts->nics[2].mtu, 9000);
	chk_facts_free(facts);
}

#define TCP "  sl  local_address rem_address   st\n   0: 0100007F:2AF8 00000000:0000 0A 0\n   1: 0100007F:2AF9 0100007F:0016 01 0\n"
#define TCP6 "  sl\n   0: 00000000000000000000000000000000:4E20 00000000000000000000000000000000:0000 0A 0\n"

static void ports_follow_the_rules_of_the_service(void **state)
{
	static const unsigned forbidden[] = {
		135, 139, 445, 5357, 5985, 5986, 8899, 8900, 47001, 49664, 49665, 49666, 49668, 49669,
		49671, 49674, 49677, 49679, 49680, 49681, 49682, 49683, 49685, 49690, 49691, 49693, 49694,
		49695, 49698, 49700, 49713,
	};
	static const unsigned allowed[] = {
		22, 10000, 49663, 49667, 49670, 49673, 49678, 49684, 49686, 49692, 49696, 49697, 49714, 65535,
	};
	static const unsigned outside[] = { 1, 21, 23, 80, 9999, 65536, 99999 };
	static const struct chk_case cases[] = {
		{ "MIGRATION_PORT", CHK_OK, "", "port 22", { { "etc", DIRECTORY } } },
		{ "MIGRATION_PORT", CHK_ERROR, "", "listens on port 11000", { { "proc/net/tcp", TCP } }, .opts.port = 11000 },
		/* A connection is no listener. */
		{ "MIGRATION_PORT", CHK_OK, "", "11001 is allowed and free", { { "proc/net/tcp", TCP } }, .opts.port = 11001 },
		{ "MIGRATION_PORT", CHK_ERROR, "", "listens on port 20000",
		  { { "proc/net/tcp", TCP }, { "proc/net/tcp6", TCP6 } }, .opts.port = 20000 },
		{ "MIGRATION_PORT", CHK_WARN, "", "not a running system", { { "etc", DIRECTORY } }, .untold = true,
		  .opts.port = 11000 },
	};
	struct fixture *f = *state;
	struct chk_case c = { "MIGRATION_PORT", CHK_ERROR, "", "", { { "proc/net/tcp", "" } } };

	run_cases(f, cases, ARRAY_SIZE(cases));
	for (size_t i = 0; i < ARRAY_SIZE(forbidden) + ARRAY_SIZE(outside); i++) {
		bool out = i >= ARRAY_SIZE(forbidden);

		c.opts.port = out ? outside[i - ARRAY_SIZE(forbidden)] : forbidden[i];
		c.text = c.opts.port < 10000 || out ? "is neither 22 nor" : "may not be used";
		run_cases(f, &c, 1);
	}
	c.want = CHK_OK;
	c.text = "";
	for (size_t i = 0; i < ARRAY_SIZE(allowed); i++) {
		c.opts.port = allowed[i];
		run_cases(f, &c, 1);
	}
}

static void surroundings_are_judged(void **state)
{
	static const struct err lost = { -ERR_CONNECT, "no connection to sms.example" };
	static const struct chk_case cases[] = {
		{ "RSYNC", CHK_ERROR, "SMS.6517", "rsync is not installed", { { "usr/bin", DIRECTORY } } },
		{ "RSYNC", CHK_OK, "", "only a running system", { { "usr/bin/rsync", "" } } },
		{ "RSYNC", CHK_OK, "", "of version 3.2.7", { { "usr/bin/rsync", "" } }, .live = true,
		  .fake.output = "rsync  version 3.2.7  protocol version 31\n" },
		{ "RSYNC", CHK_OK, "", "of version 3.4.0", { { "usr/bin/rsync", "" } }, .live = true,
		  .fake.output = "rsync  version v3.4.0  protocol version 32\n" },
		{ "RSYNC", CHK_WARN, "", "of version 2.6.8", { { "usr/bin/rsync", "" } }, .live = true,
		  .fake.output = "rsync  version 2.6.8  protocol version 29\n" },
		{ "RSYNC", CHK_WARN, "", "prints no version", { { "usr/bin/rsync", "" } }, .live = true,
		  .untold = true, .fake.output = "busybox\n" },
		{ "RSYNC", CHK_WARN, "", "rsync fails", { { "usr/bin/rsync", "" } }, .live = true, .untold = true },
		{ "SSH_CLIENT", CHK_OK, "", "/usr/bin/ssh is there", { { "usr/bin/ssh", "" } } },
		{ "SSH_CLIENT", CHK_ERROR, "SMS.1402", "ssh is not installed", { { "usr/bin", DIRECTORY } } },
		{ "TC", CHK_OK, "", "/sbin/tc is there", { { "sbin/tc", "" } } },
		{ "TC", CHK_WARN, "SMS.9007", "tc is not installed", { { "usr/bin", DIRECTORY } } },

		{ "SECURITY_SOFTWARE", CHK_OK, "", "no security software", { { "proc/1/comm", "systemd\n" } } },
		{ "SECURITY_SOFTWARE", CHK_WARN, "", "CrowdStrike Falcon, Sophos",
		  { { "proc/1/comm", "systemd\n" }, { "proc/77/comm", "falcon-sensor\n" }, { "proc/78/comm", "savd\n" },
		    { "proc/79/comm", "savscand\n" } } },
		{ "SECURITY_SOFTWARE", CHK_WARN, "", "not a running system", { { "proc", DIRECTORY } }, .untold = true },
		{ "SECURITY_SOFTWARE", CHK_WARN, "", "not a running system", { { "etc", DIRECTORY } }, .untold = true },

		{ "SELINUX", CHK_WARN, "", "enforcing", { { "sys/fs/selinux/enforce", "1" } } },
		{ "SELINUX", CHK_OK, "", "permissive", { { "sys/fs/selinux/enforce", "0" } } },
		{ "SELINUX", CHK_WARN, "", "enforcing", { { "selinux/enforce", "1" } }, .live = true },
		{ "SELINUX", CHK_OK, "", "disabled", { { "etc/selinux/config", "SELINUX=enforcing\n" } }, .live = true },
		/* Of another root the configuration counts. */
		{ "SELINUX", CHK_WARN, "", "enforcing", { { "etc/selinux/config", "# x\nSELINUX=enforcing\n" } } },
		{ "SELINUX", CHK_OK, "", "permissive", { { "etc/selinux/config", "SELINUX=permissive\nSELINUXTYPE=x\n" } } },
		{ "SELINUX", CHK_OK, "", "disabled", { { "etc", DIRECTORY } } },
		{ "SELINUX", CHK_WARN, "", "/etc/selinux/config", { { "etc/selinux/config", "->config" } }, .untold = true },

		{ "PRIVILEGES", CHK_OK, "", "what root has", { { "etc", DIRECTORY } }, .fake.is_root = true },
		{ "PRIVILEGES", CHK_WARN, "SMS.6513", "is not root", { { "etc", DIRECTORY } }, .fake.reads_all = true },
		{ "PRIVILEGES", CHK_ERROR, "SMS.6513", "only what its user can", { { "etc", DIRECTORY } } },
		{ "PRIVILEGES", CHK_WARN, "", "could not tell: no capabilities", { { "etc", DIRECTORY } }, .live = true,
		  .untold = true, .fake.privileges_fail = true },

		{ "CLOCK", CHK_OK, "", "right to 300 s", { { "etc", DIRECTORY } }, .opts.server_time_s = 1000000, .opts.server_time_at = 1000300 },
		{ "CLOCK", CHK_WARN, "SMS.0205", "301 s fast", { { "etc", DIRECTORY } }, .opts.server_time_s = 1000000, .opts.server_time_at = 1000301 },
		{ "CLOCK", CHK_WARN, "SMS.0205", "900 s slow", { { "etc", DIRECTORY } }, .opts.server_time_s = 1000000, .opts.server_time_at = 999100 },
		{ "CLOCK", CHK_ERROR, "SMS.0205", "901 s slow", { { "etc", DIRECTORY } }, .opts.server_time_s = 1000000, .opts.server_time_at = 999099 },
		{ "CLOCK", CHK_WARN, "", "could not tell: no connection to sms.example", { { "etc", DIRECTORY } },
		  .untold = true, .live = true, .opts.server_time_why = &lost },

		{ "TARGET_REACHABLE", CHK_OK, "", "db1 port 22 answers after 12 ms", { { "etc", DIRECTORY } }, .opts.target_host = "db1" },
		{ "TARGET_REACHABLE", CHK_ERROR, "SMS.3802", "db1 port 2222: no answer in 700 ms", { { "etc", DIRECTORY } },
		  .opts.target_host = "db1", .opts.target_port = 2222, .opts.connect_timeout_ms = 700,
		  .fake.connect = -ERR_CONNECT_TIMEOUT },
	};

	run_cases(*state, cases, ARRAY_SIZE(cases));
}

static struct chk_report *report_of(struct fixture *f, const char *const *only, struct fake *k)
{
	struct chk_sys sys = fake_sys(k);
	struct chk_opts o = { .root = f->dir, .supported = SUPPORTED_LIST, .only = only, .sys = &sys };
	struct chk_report *r = NULL;
	struct err e = { 0 };

	k->f = f;
	if (chk_run(&o, &r, NULL, &e) < 0)
		fail_msg("%s", e.text);
	return r;
}

static void the_verdict_names_what_is_wrong(void **state)
{
	static const char *const os[] = { "OS_VERSION", NULL };
	static const char *const two[] = { "RSYNC", "OS_VERSION", NULL };
	static const char *const port[] = { "TC", "MIGRATION_PORT", NULL };
	struct fixture *f = *state;
	struct fake k = { 0 };
	struct chk_report *r;

	fixture_write(f, "etc/os-release", "ID=debian\nVERSION_ID=13\n");
	r = report_of(f, os, &k);
	assert_int_equal(r->n, 1);
	assert_false(r->sms_usable);
	assert_string_equal(r->verdict, "SMS: unusable (OS_VERSION: SMS.6504) -> staged sync");
	chk_report_free(r);
	r = report_of(f, two, &k); /* in the order of the table */
	assert_string_equal(r->verdict,
			    "SMS: unusable (OS_VERSION: SMS.6504, RSYNC: SMS.6517) -> staged sync");
	chk_report_free(r);
	r = report_of(f, port, &k);
	assert_true(r->sms_usable);
	assert_string_equal(r->verdict, "SMS: usable (1 warning)");
	chk_report_free(r);
	fixture_write(f, "etc/os-release", "ID=debian\nVERSION_ID=8\n");
	r = report_of(f, os, &k);
	assert_string_equal(r->verdict, "SMS: usable");
	chk_report_free(r);
	/* All of them, on a root that does not run: no check that needs more is among them. */
	r = report_of(f, NULL, &k);
	assert_true(r->n > 20);
	for (size_t i = 0; i < r->n; i++)
		assert_true(strcmp(r->v[i].name, "CLOCK") && strcmp(r->v[i].name, "PRIVILEGES") &&
			    strcmp(r->v[i].name, "TARGET_SPACE"));
	chk_report_free(r);
	chk_report_free(NULL);
}

static void what_the_staged_sync_needs_too_is_said(void **state)
{
	static const char *const only[] = { "MIGRATION_PORT", NULL };
	struct chk_opts o = { .supported = SUPPORTED_LIST, .only = only, .port = 80 };
	struct fixture *f = *state;
	struct chk_report *r = NULL;
	struct chk_facts *facts = NULL;
	struct err e = { 0 };

	o.root = f->dir;
	assert_int_equal(chk_run(&o, &r, &facts, &e), 0);
	assert_string_equal(r->verdict,
			    "SMS: unusable (MIGRATION_PORT) -> neither way works until this is mended");
	assert_non_null(facts);
	chk_report_free(r);
	chk_facts_free(facts);
}

static void unknown_names_are_refused_with_the_nearest(void **state)
{
	static const struct {
		const char *only[2], *want;
	} rows[] = {
		{ { "OS_VERSON" }, "there is no check 'OS_VERSON'; did you mean OS_VERSION?" },
		{ { "memory" }, "there is no check 'memory'; did you mean MEMORY?" },
		{ { "XQZJ" }, "there is no check 'XQZJ'" },
		{ { "CLOCK" }, "the check CLOCK needs what was not given" },
		{ { "TARGET_REACHABLE" }, "the check TARGET_REACHABLE needs" },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct chk_opts o = { .root = f->dir, .supported = SUPPORTED_LIST, .only = rows[i].only };
		struct chk_report *r = NULL;
		struct err e = { 0 };

		assert_int_equal(chk_run(&o, &r, NULL, &e), -ERR_USAGE);
		if (strncmp(e.text, rows[i].want, strlen(rows[i].want)) != 0)
			fail_msg("row %zu: %s", i, e.text);
	}
}

static void every_check_has_a_name_and_a_remedy(void **state)
{
	(void)state;
	for (const struct chk *c = chk_table; c->name; c++) {
		assert_non_null(c->run);
		assert_true(*c->remedy && c->remedy[strlen(c->remedy) - 1] == '.');
		assert_true(!*c->sms_code || !strncmp(c->sms_code, "SMS.", 4));
		assert_ptr_equal(chk_find(c->name), c); /* no name twice */
		for (const char *s = c->name; *s; s++)
			assert_true((*s >= 'A' && *s <= 'Z') || *s == '_');
	}
}

static void this_host_can_be_looked_at(void **state)
{
	struct chk_opts o = { .supported = SUPPORTED_LIST };
	struct chk_report *r = NULL;
	struct chk_facts *facts = NULL;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(chk_run(&o, &r, &facts, &e), 0);
	assert_true(r->n >= 28);
	assert_true(facts->memory_bytes > 0 && facts->memory_available_bytes <= facts->memory_bytes);
	assert_true(facts->cpu_quantity > 0);
	assert_true(*facts->kernel && *facts->arch && *facts->hostname);
	chk_report_free(r);
	chk_facts_free(facts);
}

int main(void)
{
#define HOST_TEST(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		HOST_TEST(macs_must_be_unique_and_only_cards_count),
		HOST_TEST(interfaces_come_with_addresses_and_the_default_first),
		HOST_TEST(ports_follow_the_rules_of_the_service),
		HOST_TEST(surroundings_are_judged),
		HOST_TEST(the_verdict_names_what_is_wrong),
		HOST_TEST(what_the_staged_sync_needs_too_is_said),
		HOST_TEST(unknown_names_are_refused_with_the_nearest),
		cmocka_unit_test(every_check_has_a_name_and_a_remedy),
		cmocka_unit_test(this_host_can_be_looked_at),
	};
#undef HOST_TEST

	return cmocka_run_group_tests(tests, NULL, NULL);
}
