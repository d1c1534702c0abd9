BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('v3.2.0.a');
CREATE TABLE explorer_calibrations (
	id INTEGER NOT NULL, 
	study_id INTEGER NOT NULL, 
	part VARCHAR(100) NOT NULL, 
	facts JSON NOT NULL, 
	data BLOB NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	seconds DOUBLE NOT NULL, 
	created DOUBLE NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (study_id, part), 
	FOREIGN KEY(study_id) REFERENCES explorer_studies (id)
);
CREATE TABLE explorer_devices (
	id INTEGER NOT NULL, 
	fingerprint VARCHAR(64) NOT NULL, 
	name VARCHAR(200) NOT NULL, 
	details JSON NOT NULL, 
	created DOUBLE NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (fingerprint)
);
INSERT INTO "explorer_devices" VALUES(1,'72bc0a2cd3480f62d75d2ada032a8c2d69a9c186997b1c1ebf4398e7d9abd781','a small machine','{"name": "a small machine"}',1.79604697096162128442e+09);
CREATE TABLE explorer_findings (
	id INTEGER NOT NULL, 
	study_id INTEGER NOT NULL, 
	kind VARCHAR(40) NOT NULL, 
	value JSON NOT NULL, 
	created DOUBLE NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (study_id, kind), 
	FOREIGN KEY(study_id) REFERENCES explorer_studies (id)
);
CREATE TABLE explorer_measurements (
	id INTEGER NOT NULL, 
	plan_id INTEGER NOT NULL, 
	metric VARCHAR(100) NOT NULL, 
	value DOUBLE NOT NULL, 
	low DOUBLE NOT NULL, 
	high DOUBLE NOT NULL, 
	n INTEGER NOT NULL, 
	extractor VARCHAR(200), 
	seconds DOUBLE, 
	samples JSON, 
	device_id INTEGER, 
	PRIMARY KEY (id), 
	UNIQUE (plan_id, metric), 
	FOREIGN KEY(plan_id) REFERENCES explorer_plans (id), 
	FOREIGN KEY(device_id) REFERENCES explorer_devices (id)
);
INSERT INTO "explorer_measurements" VALUES(1,1,'latency',1.0,0.99,1.01,8,NULL,1.5,'null',1);
INSERT INTO "explorer_measurements" VALUES(2,1,'speedup',1.0,0.99,1.01,8,NULL,NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(3,1,'fd_toy',20.0,19.8,20.2,8,'toy',NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(4,1,'clip',30.0,29.7,30.3,8,NULL,NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(5,1,'psnr',40.0,39.6,40.4,8,NULL,NULL,'[40.0, 40.0, 40.0, 40.0, 40.0, 40.0, 40.0, 40.0]',1);
INSERT INTO "explorer_measurements" VALUES(6,2,'latency',9.0909090909090906063e-01,8.99999999999999911182e-01,9.18181818181818210078e-01,8,NULL,1.5,'null',1);
INSERT INTO "explorer_measurements" VALUES(7,2,'speedup',1.1,1.089,1.11100000000000020961e+00,8,NULL,NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(8,2,'fd_toy',21.0,20.79,21.21,8,'toy',NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(9,2,'clip',29.95,2.96504999999999974136e+01,30.2495,8,NULL,NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(10,2,'psnr',39.0,38.61,39.39,8,NULL,NULL,'[39.0, 39.0, 39.0, 39.0, 39.0, 39.0, 39.0, 39.0]',1);
INSERT INTO "explorer_measurements" VALUES(11,3,'latency',8.3333333333333337034e-01,8.25000000000000066613e-01,8.41666666666666674068e-01,8,NULL,1.5,'null',1);
INSERT INTO "explorer_measurements" VALUES(12,3,'speedup',1.2,1.188,1.212,8,NULL,NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(13,3,'fd_toy',22.0,21.78,22.22,8,'toy',NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(14,3,'clip',29.9,29.601,3.01989999999999980673e+01,8,NULL,NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(15,3,'psnr',38.0,37.62,38.38,8,NULL,NULL,'[38.0, 38.0, 38.0, 38.0, 38.0, 38.0, 38.0, 38.0]',1);
INSERT INTO "explorer_measurements" VALUES(16,4,'latency',7.69230769230769162447e-01,7.61538461538461497468e-01,7.76923076923076827426e-01,8,NULL,1.5,'null',1);
INSERT INTO "explorer_measurements" VALUES(17,4,'speedup',1.3,1.287,1.31300000000000016697e+00,8,NULL,NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(18,4,'fd_toy',23.0,22.77,23.23,8,'toy',NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(19,4,'clip',29.85,29.5515,3.01485000000000020743e+01,8,NULL,NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(20,4,'psnr',37.0,36.63,37.37,8,NULL,NULL,'[37.0, 37.0, 37.0, 37.0, 37.0, 37.0, 37.0, 37.0]',1);
INSERT INTO "explorer_measurements" VALUES(21,5,'latency',7.14285714285714301574e-01,7.07142857142857184093e-01,7.21428571428571419055e-01,8,NULL,1.5,'null',1);
INSERT INTO "explorer_measurements" VALUES(22,5,'speedup',1.4,1.386,1.414,8,NULL,NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(23,5,'fd_toy',24.0,2.37599999999999980096e+01,2.42400000000000019899e+01,8,'toy',NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(24,5,'clip',29.8,29.502,3.00980000000000025295e+01,8,NULL,NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(25,5,'psnr',36.0,35.64,36.36,8,NULL,NULL,'[36.0, 36.0, 36.0, 36.0, 36.0, 36.0, 36.0, 36.0]',1);
INSERT INTO "explorer_measurements" VALUES(26,6,'latency',6.66666666666666629659e-01,6.59999999999999920063e-01,6.73333333333333339254e-01,8,NULL,1.5,'null',1);
INSERT INTO "explorer_measurements" VALUES(27,6,'speedup',1.5,1.48499999999999987565e+00,1.51500000000000012434e+00,8,NULL,NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(28,6,'fd_toy',25.0,24.75,25.25,8,'toy',NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(29,6,'clip',29.75,29.4525,30.0475,8,NULL,NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(30,6,'psnr',35.0,34.65,35.35,8,NULL,NULL,'[35.0, 35.0, 35.0, 35.0, 35.0, 35.0, 35.0, 35.0]',1);
INSERT INTO "explorer_measurements" VALUES(31,7,'latency',0.625,0.61875,0.63125,8,NULL,1.5,'null',1);
INSERT INTO "explorer_measurements" VALUES(32,7,'speedup',1.6,1.584,1.616,8,NULL,NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(33,7,'fd_toy',26.0,25.74,26.26,8,'toy',NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(34,7,'clip',29.7,29.403,29.997,8,NULL,NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(35,7,'psnr',34.0,33.66,34.34,8,NULL,NULL,'[34.0, 34.0, 34.0, 34.0, 34.0, 34.0, 34.0, 34.0]',1);
INSERT INTO "explorer_measurements" VALUES(36,9,'latency',5.55555555555555580227e-01,0.55,5.61111111111111116045e-01,8,NULL,1.5,'null',1);
INSERT INTO "explorer_measurements" VALUES(37,9,'speedup',1.8,1.782,1.818,8,NULL,NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(38,9,'fd_toy',28.0,27.72,28.28,8,'toy',NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(39,9,'clip',29.6,2.93040000000000020472e+01,29.896,8,NULL,NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(40,9,'psnr',32.0,31.68,32.32,8,NULL,NULL,'[32.0, 32.0, 32.0, 32.0, 32.0, 32.0, 32.0, 32.0]',1);
INSERT INTO "explorer_measurements" VALUES(41,10,'latency',5.26315789473684181309e-01,5.21052631578947322843e-01,0.531578947368421,8,NULL,1.5,'null',1);
INSERT INTO "explorer_measurements" VALUES(42,10,'speedup',1.9,1.881,1.91899999999999981703e+00,8,NULL,NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(43,10,'fd_toy',29.0,28.71,29.29,8,'toy',NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(44,10,'clip',29.55,29.2545,29.8455,8,NULL,NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(45,10,'psnr',31.0,30.69,31.31,8,NULL,NULL,'[31.0, 31.0, 31.0, 31.0, 31.0, 31.0, 31.0, 31.0]',1);
INSERT INTO "explorer_measurements" VALUES(46,11,'latency',0.5,0.495,0.505,8,NULL,1.5,'null',1);
INSERT INTO "explorer_measurements" VALUES(47,11,'speedup',2.0,1.98,2.02,8,NULL,NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(48,11,'fd_toy',30.0,29.7,30.3,8,'toy',NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(49,11,'clip',29.5,29.205,29.795,8,NULL,NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(50,11,'psnr',30.0,29.7,30.3,8,NULL,NULL,'[30.0, 30.0, 30.0, 30.0, 30.0, 30.0, 30.0, 30.0]',1);
INSERT INTO "explorer_measurements" VALUES(51,12,'latency',4.76190476190476164042e-01,4.71428571428571419055e-01,4.80952380952380909029e-01,8,NULL,1.5,'null',1);
INSERT INTO "explorer_measurements" VALUES(52,12,'speedup',2.1,2.079,2.121,8,NULL,NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(53,12,'fd_toy',31.0,30.69,31.31,8,'toy',NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(54,12,'clip',29.45,29.1555,29.7445,8,NULL,NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(55,12,'psnr',29.0,28.71,29.29,8,NULL,NULL,'[29.0, 29.0, 29.0, 29.0, 29.0, 29.0, 29.0, 29.0]',1);
CREATE TABLE explorer_pictures (
	id INTEGER NOT NULL, 
	plan_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	path TEXT NOT NULL, 
	thumbnail TEXT NOT NULL, 
	prompt TEXT, 
	seed BIGINT, 
	PRIMARY KEY (id), 
	UNIQUE (plan_id, number), 
	FOREIGN KEY(plan_id) REFERENCES explorer_plans (id)
);
CREATE TABLE explorer_plans (
	id INTEGER NOT NULL, 
	study_id INTEGER NOT NULL, 
	"key" VARCHAR(100) NOT NULL, 
	"plan" JSON NOT NULL, 
	parameters JSON, 
	words TEXT NOT NULL, 
	origin VARCHAR(10) NOT NULL, 
	name VARCHAR(200), 
	aliases JSON NOT NULL, 
	state VARCHAR(10) NOT NULL, 
	reason TEXT, 
	trial_number INTEGER, 
	worker_id INTEGER, 
	claimed DOUBLE, 
	finished DOUBLE, attempts INTEGER DEFAULT '0' NOT NULL, proposed_by VARCHAR(40), 
	PRIMARY KEY (id), 
	UNIQUE (study_id, "key"), 
	FOREIGN KEY(study_id) REFERENCES explorer_studies (id), 
	FOREIGN KEY(worker_id) REFERENCES explorer_workers (id)
);
INSERT INTO "explorer_plans" VALUES(1,1,'7d8535b581524a5c97e7','{"schema": 2, "kind": "inheritance-plan", "name": "plain@20", "steps": 20, "architecture": {"down": [{"channels": 16, "layers": 2, "transformers": 1}, {"channels": 32, "layers": 2, "transformers": 1}, {"channels": 32, "layers": 2, "transformers": 1}, {"channels": 32, "layers": 2, "transformers": 0}], "mid_transformers": 1, "up": [{"channels": 32, "layers": 3, "transformers": 0}, {"channels": 32, "layers": 3, "transformers": 1}, {"channels": 32, "layers": 3, "transformers": 1}, {"channels": 16, "layers": 3, "transformers": 1}], "in_channels": 4, "out_channels": 4, "context": 16}, "masks": [], "schedule": "P1", "rule": {"kind": "copy", "order": 0}, "evaluations": 21}','null','plain@20','baseline','plain@20','[]','done',NULL,0,1,1796046970.98639,1.79604697100047612187e+09,0,NULL);
INSERT INTO "explorer_plans" VALUES(2,1,'2ba3e0188a0344d1fb2a','{"schema": 2, "kind": "inheritance-plan", "name": "plain@10", "steps": 10, "architecture": {"down": [{"channels": 16, "layers": 2, "transformers": 1}, {"channels": 32, "layers": 2, "transformers": 1}, {"channels": 32, "layers": 2, "transformers": 1}, {"channels": 32, "layers": 2, "transformers": 0}], "mid_transformers": 1, "up": [{"channels": 32, "layers": 3, "transformers": 0}, {"channels": 32, "layers": 3, "transformers": 1}, {"channels": 32, "layers": 3, "transformers": 1}, {"channels": 16, "layers": 3, "transformers": 1}], "in_channels": 4, "out_channels": 4, "context": 16}, "masks": [], "schedule": "P1", "rule": {"kind": "copy", "order": 0}, "evaluations": 11}','null','plain@10','baseline','plain@10','[]','done',NULL,1,1,1.79604697100685262679e+09,1.79604697102104568485e+09,0,NULL);
INSERT INTO "explorer_plans" VALUES(3,1,'c5c60725e50f75eb60b4','{"schema": 2, "kind": "inheritance-plan", "name": "DC0/P3", "steps": 20, "architecture": {"down": [{"channels": 16, "layers": 2, "transformers": 1}, {"channels": 32, "layers": 2, "transformers": 1}, {"channels": 32, "layers": 2, "transformers": 1}, {"channels": 32, "layers": 2, "transformers": 0}], "mid_transformers": 1, "up": [{"channels": 32, "layers": 3, "transformers": 0}, {"channels": 32, "layers": 3, "transformers": 1}, {"channels": 32, "layers": 3, "transformers": 1}, {"channels": 16, "layers": 3, "transformers": 1}], "in_channels": 4, "out_channels": 4, "context": 16}, "masks": ["up3.l1.attn="], "schedule": "P3", "rule": {"kind": "copy", "order": 0}, "evaluations": 21}','null','DC0/P3','baseline','DC0/P3','[]','done',NULL,2,1,1.79604697102237153053e+09,1.79604697103232073779e+09,0,NULL);
INSERT INTO "explorer_plans" VALUES(4,1,'18aec2c442537f979742','{"schema": 2, "kind": "inheritance-plan", "name": "CO6/P5\u2020", "steps": 20, "architecture": {"down": [{"channels": 16, "layers": 2, "transformers": 1}, {"channels": 32, "layers": 2, "transformers": 1}, {"channels": 32, "layers": 2, "transformers": 1}, {"channels": 32, "layers": 2, "transformers": 0}], "mid_transformers": 1, "up": [{"channels": 32, "layers": 3, "transformers": 0}, {"channels": 32, "layers": 3, "transformers": 1}, {"channels": 32, "layers": 3, "transformers": 1}, {"channels": 16, "layers": 3, "transformers": 1}], "in_channels": 4, "out_channels": 4, "context": 16}, "masks": ["dn0 dn1 dn2 dn3 mid up0 up1 up2 up3.l0.res up3.l1.res up3.l2.res"], "schedule": "P5 tail=0.2", "rule": {"kind": "copy", "order": 0}, "evaluations": 21}','null','CO6/P5†','baseline','CO6/P5†','[]','done',NULL,3,1,1.79604697103316473961e+09,1796046971.03577,0,NULL);
INSERT INTO "explorer_plans" VALUES(5,1,'b094a4569b14464c89d0','{"schema": 2, "kind": "inheritance-plan", "name": "DC1/N+f1", "steps": 20, "architecture": {"down": [{"channels": 16, "layers": 2, "transformers": 1}, {"channels": 32, "layers": 2, "transformers": 1}, {"channels": 32, "layers": 2, "transformers": 1}, {"channels": 32, "layers": 2, "transformers": 0}], "mid_transformers": 1, "up": [{"channels": 32, "layers": 3, "transformers": 0}, {"channels": 32, "layers": 3, "transformers": 1}, {"channels": 32, "layers": 3, "transformers": 1}, {"channels": 16, "layers": 3, "transformers": 1}], "in_channels": 4, "out_channels": 4, "context": 16}, "masks": ["up3.l0.attn="], "schedule": "N4 centre=0.3 power=1.4", "rule": {"kind": "forecast", "order": 1}, "evaluations": 21}','null','DC1/N+f1','baseline','DC1/N+f1','[]','done',NULL,4,1,1.79604697103683114047e+09,1.79604697105332398411e+09,0,NULL);
INSERT INTO "explorer_plans" VALUES(6,1,'65173d4923edbd28540b','{"schema": 3, "kind": "inheritance-plan", "name": null, "steps": 10, "scheduler": "DPMSolverMultistepScheduler", "architecture": {"down": [{"channels": 16, "layers": 2, "transformers": 1}, {"channels": 32, "layers": 2, "transformers": 1}, {"channels": 32, "layers": 2, "transformers": 1}, {"channels": 32, "layers": 2, "transformers": 0}], "mid_transformers": 1, "up": [{"channels": 32, "layers": 3, "transformers": 0}, {"channels": 32, "layers": 3, "transformers": 1}, {"channels": 32, "layers": 3, "transformers": 1}, {"channels": 16, "layers": 3, "transformers": 1}], "in_channels": 4, "out_channels": 4, "context": 16}, "masks": [], "schedule": "P1", "rule": {"kind": "copy", "order": 0}, "evaluations": 11}','null','plain@10/DPMSolverMultistep','baseline',NULL,'[]','done',NULL,5,1,1.7960469710545880794e+09,1.7960469710662713051e+09,0,NULL);
INSERT INTO "explorer_plans" VALUES(7,1,'08f2b27532edbea55702','{"schema": 2, "kind": "inheritance-plan", "name": null, "steps": 20, "architecture": {"down": [{"channels": 16, "layers": 2, "transformers": 1}, {"channels": 32, "layers": 2, "transformers": 1}, {"channels": 32, "layers": 2, "transformers": 1}, {"channels": 32, "layers": 2, "transformers": 0}], "mid_transformers": 1, "up": [{"channels": 32, "layers": 3, "transformers": 0}, {"channels": 32, "layers": 3, "transformers": 1}, {"channels": 32, "layers": 3, "transformers": 1}, {"channels": 16, "layers": 3, "transformers": 1}], "in_channels": 4, "out_channels": 4, "context": 16}, "masks": ["up3.l1.attn="], "schedule": "P2", "rule": {"kind": "forecast", "order": 2}, "evaluations": 21}','null','up3.l1.attn= / P2+f2, 20 steps','search',NULL,'[]','done',NULL,6,1,1.79604697106767439845e+09,1.79604697107561683657e+09,0,NULL);
INSERT INTO "explorer_plans" VALUES(8,1,'b7251cd52a7d91fe401a','{"schema": 2, "kind": "inheritance-plan", "name": null, "steps": 20, "architecture": {"down": [{"channels": 16, "layers": 2, "transformers": 1}, {"channels": 32, "layers": 2, "transformers": 1}, {"channels": 32, "layers": 2, "transformers": 1}, {"channels": 32, "layers": 2, "transformers": 0}], "mid_transformers": 1, "up": [{"channels": 32, "layers": 3, "transformers": 0}, {"channels": 32, "layers": 3, "transformers": 1}, {"channels": 32, "layers": 3, "transformers": 1}, {"channels": 16, "layers": 3, "transformers": 1}], "in_channels": 4, "out_channels": 4, "context": 16}, "masks": ["dn3.l0 up3.l1.attn= up3.l2.attn"], "schedule": "N5 centre=0.3 power=1.4", "rule": {"kind": "forecast", "order": 1}, "evaluations": 21}','null','dn3.l0 up3.l1.attn= up3.l2.attn / N5c0.3p1.4+f1, 20 steps','search',NULL,'[]','failed','it ran out of memory',7,1,1.79604697107642793658e+09,1.79604697108613562588e+09,0,NULL);
INSERT INTO "explorer_plans" VALUES(9,1,'7563cd9c182610b089ff','{"schema": 2, "kind": "inheritance-plan", "name": null, "steps": 4, "architecture": {"down": [{"channels": 16, "layers": 2, "transformers": 1}, {"channels": 32, "layers": 2, "transformers": 1}, {"channels": 32, "layers": 2, "transformers": 1}, {"channels": 32, "layers": 2, "transformers": 0}], "mid_transformers": 1, "up": [{"channels": 32, "layers": 3, "transformers": 0}, {"channels": 32, "layers": 3, "transformers": 1}, {"channels": 32, "layers": 3, "transformers": 1}, {"channels": 16, "layers": 3, "transformers": 1}], "in_channels": 4, "out_channels": 4, "context": 16}, "masks": ["up3.l1.attn=", "dn0.l0.attn dn0.l1.attn dn1.l0.attn dn1.l1.attn dn2.l0.attn dn2.l1.attn up1.l0.attn up1.l1.attn up1.l2.attn up2.l0.attn up2.l1.attn up2.l2.attn up3.l0.attn up3.l1.attn up3.l2.attn"], "schedule": "0 1 2 0 1", "rule": {"kind": "copy", "order": 0}, "evaluations": 5}','null','up3.l1.attn= + dn0.l0.attn dn0.l1.attn dn1.l0.attn 12 more / S2/5, 4 steps','search',NULL,'[]','done',NULL,8,1,1.79604697108717250826e+09,1.7960469710988948345e+09,0,NULL);
INSERT INTO "explorer_plans" VALUES(10,1,'5796beb0fc093779a74b','{"schema": 3, "kind": "inheritance-plan", "name": null, "steps": 20, "scheduler": "DDIMScheduler", "architecture": {"down": [{"channels": 16, "layers": 2, "transformers": 1}, {"channels": 32, "layers": 2, "transformers": 1}, {"channels": 32, "layers": 2, "transformers": 1}, {"channels": 32, "layers": 2, "transformers": 0}], "mid_transformers": 1, "up": [{"channels": 32, "layers": 3, "transformers": 0}, {"channels": 32, "layers": 3, "transformers": 1}, {"channels": 32, "layers": 3, "transformers": 1}, {"channels": 16, "layers": 3, "transformers": 1}], "in_channels": 4, "out_channels": 4, "context": 16}, "masks": ["up3.l1.attn="], "schedule": "P3", "rule": {"kind": "forecast", "order": 2}, "evaluations": 21}','null','up3.l1.attn= / P3+f2, 20 steps of DDIM','search',NULL,'[]','screened','screened out on 8 prompts',9,1,1.79604697110035872462e+09,1.79604697110807752609e+09,0,NULL);
INSERT INTO "explorer_plans" VALUES(11,1,'0a82214b7042dfcd8897','{"schema": 2, "kind": "inheritance-plan", "name": null, "steps": 20, "architecture": {"down": [{"channels": 16, "layers": 2, "transformers": 1}, {"channels": 32, "layers": 2, "transformers": 1}, {"channels": 32, "layers": 2, "transformers": 1}, {"channels": 32, "layers": 2, "transformers": 0}], "mid_transformers": 1, "up": [{"channels": 32, "layers": 3, "transformers": 0}, {"channels": 32, "layers": 3, "transformers": 1}, {"channels": 32, "layers": 3, "transformers": 1}, {"channels": 16, "layers": 3, "transformers": 1}], "in_channels": 4, "out_channels": 4, "context": 16}, "masks": ["up3.l1.attn="], "schedule": "P3@2 tail=0.3", "rule": {"kind": "copy", "order": 0}, "evaluations": 21}','null','up3.l1.attn= / P3@2|tail 0.3, 20 steps','search',NULL,'[]','done',NULL,10,1,1.79604697111752915385e+09,1.79604697112059259419e+09,0,NULL);
INSERT INTO "explorer_plans" VALUES(12,1,'3f956d1061e9067bfade','{"schema": 1, "kind": "inheritance-plan", "name": null, "steps": 20, "architecture": {"down": [{"channels": 16, "layers": 2, "transformers": 1}, {"channels": 32, "layers": 2, "transformers": 1}, {"channels": 32, "layers": 2, "transformers": 1}, {"channels": 32, "layers": 2, "transformers": 0}], "mid_transformers": 1, "up": [{"channels": 32, "layers": 3, "transformers": 0}, {"channels": 32, "layers": 3, "transformers": 1}, {"channels": 32, "layers": 3, "transformers": 1}, {"channels": 16, "layers": 3, "transformers": 1}], "in_channels": 4, "out_channels": 4, "context": 16}, "masks": [{"dn0.l0.attn": "residual", "dn0.l1.attn": "residual", "dn1.l0.attn": "residual", "dn1.l1.attn": "residual", "dn2.l0.attn": "residual", "dn2.l1.attn": "residual", "up1.l0.attn": "residual", "up1.l1.attn": "residual", "up1.l2.attn": "residual", "up2.l0.attn": "residual", "up2.l1.attn": "residual", "up2.l2.attn": "residual", "up3.l0.attn": "residual", "up3.l1.attn": "residual", "up3.l2.attn": "residual"}], "schedule": {"kind": "periodic", "period": 2, "offset": 0, "tail": 0.0, "switches": []}, "rule": {"kind": "copy", "order": 0}, "evaluations": 21}','null','dn0.l0.attn dn0.l1.attn dn1.l0.attn 12 more / P2, 20 steps','search',NULL,'[]','done',NULL,11,1,1.79604697112997484208e+09,1.79604697113220167161e+09,0,NULL);
INSERT INTO "explorer_plans" VALUES(13,1,'9e8786b4bd99f680759d','{"schema": 9, "kind": "inheritance-plan", "name": null, "steps": 20, "architecture": {"down": [{"channels": 16, "layers": 2, "transformers": 1}, {"channels": 32, "layers": 2, "transformers": 1}, {"channels": 32, "layers": 2, "transformers": 1}, {"channels": 32, "layers": 2, "transformers": 0}], "mid_transformers": 1, "up": [{"channels": 32, "layers": 3, "transformers": 0}, {"channels": 32, "layers": 3, "transformers": 1}, {"channels": 32, "layers": 3, "transformers": 1}, {"channels": 16, "layers": 3, "transformers": 1}], "in_channels": 4, "out_channels": 4, "context": 16}, "masks": ["dn3 up0 dn0.l0.res dn0.l1.res dn1.l0.res dn1.l1.res dn2.l0.res dn2.l1.res up1.l0.res up1.l1.res up1.l2.res up2.l0.res up2.l1.res up2.l2.res up3.l0.res up3.l1.res up3.l2.res"], "schedule": "Q3 phase=2", "rule": {"kind": "copy", "order": 0}, "evaluations": 21}','null','dn3 up0 dn0.l0.res dn0.l1.res dn1.l0.res 12 more / P4, 20 steps','search',NULL,'[]','waiting',NULL,NULL,NULL,NULL,NULL,0,NULL);
INSERT INTO "explorer_plans" VALUES(14,1,'23bea1e5fca5df4ba0c2','{"period": 3, "width": 4, "steps": 50}','null','dn0 up3 / P3, 20 steps','search',NULL,'[]','waiting',NULL,NULL,NULL,NULL,NULL,0,NULL);
CREATE TABLE explorer_profiles (
	id INTEGER NOT NULL, 
	"key" VARCHAR(64) NOT NULL, 
	model TEXT NOT NULL, 
	architecture VARCHAR(12) NOT NULL, 
	complete BOOLEAN NOT NULL, 
	document JSON NOT NULL, 
	device_id INTEGER NOT NULL, 
	updated DOUBLE NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE ("key"), 
	FOREIGN KEY(device_id) REFERENCES explorer_devices (id)
);
CREATE TABLE explorer_schema (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT explorer_schema_pkc PRIMARY KEY (version_num)
);
INSERT INTO "explorer_schema" VALUES('0006');
CREATE TABLE explorer_studies (
	id INTEGER NOT NULL, 
	name VARCHAR(100) NOT NULL, 
	settings JSON NOT NULL, 
	created DOUBLE NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (name)
);
INSERT INTO "explorer_studies" VALUES(1,'older','{"model": "emoji", "architecture": "6520c5c137b8", "device": "cpu: a small machine", "dtype": "float32", "resolution": [64, 64], "steps": 20, "scheduler": "PNDMScheduler", "space": "none", "objectives": [{"name": "latency", "direction": "minimize"}, {"name": "fd_toy", "direction": "minimize"}, {"name": "clip", "direction": "maximize"}], "prompts": "emoji-search", "prompts_hash": "0000000000000000000000000000000000000000000000000000000000000000", "sampler": {"name": "tpe", "arguments": {}, "seed": 0}, "guidance": 7.5, "batch": 1, "seed": 0, "compile": "off", "extractor": null, "reference": null, "extra": {}}',1.79604696989796352385e+09);
CREATE TABLE explorer_workers (
	id INTEGER NOT NULL, 
	study_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	host VARCHAR(200) NOT NULL, 
	pid INTEGER NOT NULL, 
	process_started DOUBLE NOT NULL, 
	heartbeat DOUBLE NOT NULL, 
	state VARCHAR(10) NOT NULL, 
	device_id INTEGER, 
	PRIMARY KEY (id), 
	UNIQUE (study_id, number), 
	FOREIGN KEY(study_id) REFERENCES explorer_studies (id), 
	FOREIGN KEY(device_id) REFERENCES explorer_devices (id)
);
INSERT INTO "explorer_workers" VALUES(1,1,0,'a machine',1,0.0,1.79604697113745236398e+09,'stopped',1);
CREATE TABLE studies (
	study_id INTEGER NOT NULL, 
	study_name VARCHAR(512) NOT NULL, 
	PRIMARY KEY (study_id)
);
INSERT INTO "studies" VALUES(1,'older');
CREATE TABLE study_directions (
	study_direction_id INTEGER NOT NULL, 
	direction VARCHAR(8) NOT NULL, 
	study_id INTEGER NOT NULL, 
	objective INTEGER NOT NULL, 
	PRIMARY KEY (study_direction_id), 
	UNIQUE (study_id, objective), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "study_directions" VALUES(1,'MINIMIZE',1,0);
INSERT INTO "study_directions" VALUES(2,'MINIMIZE',1,1);
INSERT INTO "study_directions" VALUES(3,'MAXIMIZE',1,2);
CREATE TABLE study_system_attributes (
	study_system_attribute_id INTEGER NOT NULL, 
	study_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (study_system_attribute_id), 
	UNIQUE (study_id, "key"), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
CREATE TABLE study_user_attributes (
	study_user_attribute_id INTEGER NOT NULL, 
	study_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (study_user_attribute_id), 
	UNIQUE (study_id, "key"), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
CREATE TABLE trial_heartbeats (
	trial_heartbeat_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	heartbeat DATETIME NOT NULL, 
	PRIMARY KEY (trial_heartbeat_id), 
	UNIQUE (trial_id), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trial_intermediate_values (
	trial_intermediate_value_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	step INTEGER NOT NULL, 
	intermediate_value FLOAT, 
	intermediate_value_type VARCHAR(7) NOT NULL, 
	PRIMARY KEY (trial_intermediate_value_id), 
	UNIQUE (trial_id, step), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trial_params (
	param_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	param_name VARCHAR(512), 
	param_value FLOAT, 
	distribution_json TEXT, 
	PRIMARY KEY (param_id), 
	UNIQUE (trial_id, param_name), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trial_system_attributes (
	trial_system_attribute_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (trial_system_attribute_id), 
	UNIQUE (trial_id, "key"), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trial_user_attributes (
	trial_user_attribute_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (trial_user_attribute_id), 
	UNIQUE (trial_id, "key"), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trial_values (
	trial_value_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	objective INTEGER NOT NULL, 
	value FLOAT, 
	value_type VARCHAR(7) NOT NULL, 
	PRIMARY KEY (trial_value_id), 
	UNIQUE (trial_id, objective), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trials (
	trial_id INTEGER NOT NULL, 
	number INTEGER, 
	study_id INTEGER, 
	state VARCHAR(8) NOT NULL, 
	datetime_start DATETIME, 
	datetime_complete DATETIME, 
	PRIMARY KEY (trial_id), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
CREATE TABLE version_info (
	version_info_id INTEGER NOT NULL, 
	schema_version INTEGER, 
	library_version VARCHAR(256), 
	PRIMARY KEY (version_info_id), 
	CHECK (version_info_id=1)
);
INSERT INTO "version_info" VALUES(1,12,'5.0.0');
CREATE INDEX ix_explorer_workers_study_id ON explorer_workers (study_id);
CREATE INDEX explorer_plans_by_state ON explorer_plans (study_id, state);
CREATE UNIQUE INDEX ix_studies_study_name ON studies (study_name);
CREATE INDEX ix_trials_study_id ON trials (study_id);
COMMIT;
