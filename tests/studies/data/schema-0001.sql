BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('v3.2.0.a');
CREATE TABLE explorer_devices (
	id INTEGER NOT NULL, 
	fingerprint VARCHAR(64) NOT NULL, 
	name VARCHAR(200) NOT NULL, 
	details JSON NOT NULL, 
	created DOUBLE NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (fingerprint)
);
INSERT INTO "explorer_devices" VALUES(1,'b79913824acb6069b5cd1d41b002013d141cb41db97623ecf9fec2d6e642ab27','cpu','{"name": "cpu", "torch": "1"}',1795245767.16289);
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
INSERT INTO "explorer_measurements" VALUES(1,1,'latency',1.0,0.99,1.01,8,NULL,0.5,'[1.0, 1.01]',1);
INSERT INTO "explorer_measurements" VALUES(2,1,'speedup',1.0,0.99,1.01,8,NULL,NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(3,1,'fd_toy',0.0,-0.01,0.01,8,'toy',NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(4,1,'clip',30.0,29.99,30.01,8,NULL,NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(5,2,'latency',0.4,0.39,4.10000000000000031086e-01,8,NULL,0.5,'[0.4, 0.404]',1);
INSERT INTO "explorer_measurements" VALUES(6,2,'speedup',2.5,2.49,2.51,8,NULL,NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(7,2,'fd_toy',0.6,0.59,0.61,8,'toy',NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(8,2,'clip',29.4,2.93899999999999970165e+01,29.41,8,NULL,NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(9,3,'latency',0.28,0.27,2.90000000000000035527e-01,8,NULL,0.5,'[0.28, 0.28280000000000005]',1);
INSERT INTO "explorer_measurements" VALUES(10,3,'speedup',3.5714285714285711748e+00,3.56142857142857138796e+00,3.58142857142857096164e+00,8,NULL,NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(11,3,'fd_toy',4.32,4.31000000000000049737e+00,4.33,8,'toy',NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(12,3,'clip',25.68,2.56699999999999981534e+01,25.69,8,NULL,NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(13,5,'latency',3.87499999999999955591e-01,3.77499999999999946709e-01,3.97499999999999964472e-01,8,NULL,0.5,'[0.38749999999999996, 0.391375]',1);
INSERT INTO "explorer_measurements" VALUES(14,5,'speedup',2.5806451612903229531e+00,2.57064516129032316626e+00,2.59064516129032273994e+00,8,NULL,NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(15,5,'fd_toy',5.5125,5.5025,5.5225,8,'toy',NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(16,5,'clip',24.4875,24.4775,2.44975000000000022728e+01,8,NULL,NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(17,6,'latency',8.28571428571428514331e-01,8.18571428571428505449e-01,8.38571428571428523213e-01,8,NULL,0.5,'[0.8285714285714285, 0.8368571428571429]',1);
INSERT INTO "explorer_measurements" VALUES(18,6,'speedup',1.20689655172413812245e+00,1.19689655172413811357e+00,1.21689655172413813133e+00,8,NULL,NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(19,6,'fd_toy',1.37142857142857144125e+00,1.36142857142857143237e+00,1.38142857142857145014e+00,8,'toy',NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(20,6,'clip',2.8628571428571429891e+01,2.86185714285714283278e+01,2.86385714285714314542e+01,8,NULL,NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(21,7,'latency',9.33333333333333348136e-01,9.23333333333333339254e-01,9.43333333333333357018e-01,8,NULL,0.5,'[0.9333333333333333, 0.9426666666666667]',1);
INSERT INTO "explorer_measurements" VALUES(22,7,'speedup',1.07142857142857139685e+00,1.06142857142857138796e+00,1.08142857142857140573e+00,8,NULL,NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(23,7,'fd_toy',2.66666666666666718477e-01,2.56666666666666709595e-01,2.76666666666666727358e-01,8,'toy',NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(24,7,'clip',2.97333333333333342807e+01,2.97233333333333327175e+01,2.97433333333333358447e+01,8,NULL,NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(25,8,'latency',0.775,0.765,0.785,8,NULL,0.5,'[0.775, 0.7827500000000001]',1);
INSERT INTO "explorer_measurements" VALUES(26,8,'speedup',1.2903225806451612545e+00,1.28032258064516124562e+00,1.30032258064516126339e+00,8,NULL,NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(27,8,'fd_toy',0.9,0.89,0.91,8,'toy',NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(28,8,'clip',29.1,29.09,2.91100000000000029842e+01,8,NULL,NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(29,9,'latency',0.475,4.64999999999999968913e-01,0.485,8,NULL,0.5,'[0.475, 0.47974999999999995]',1);
INSERT INTO "explorer_measurements" VALUES(30,9,'speedup',2.10526315789473672523e+00,2.0952631578947369384e+00,2.11526315789473651207e+00,8,NULL,NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(31,9,'fd_toy',4.7250000000000005329e+00,4.71500000000000074606e+00,4.735,8,'toy',NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(32,9,'clip',25.275,2.52649999999999970152e+01,25.285,8,NULL,NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(33,10,'latency',4.66666666666666563045e-01,4.56666666666666554164e-01,4.76666666666666571927e-01,8,NULL,0.5,'[0.46666666666666656, 0.4713333333333332]',1);
INSERT INTO "explorer_measurements" VALUES(34,10,'speedup',2.14285714285714323779e+00,2.13285714285714345095e+00,2.15285714285714302462e+00,8,NULL,NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(35,10,'fd_toy',2.13333333333333374781e+00,2.12333333333333396097e+00,2.14333333333333353465e+00,8,'toy',NULL,'null',1);
INSERT INTO "explorer_measurements" VALUES(36,10,'clip',2.78666666666666671412e+01,2.78566666666666655776e+01,2.78766666666666687026e+01,8,NULL,NULL,'null',1);
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
	finished DOUBLE, 
	PRIMARY KEY (id), 
	UNIQUE (study_id, "key"), 
	FOREIGN KEY(study_id) REFERENCES explorer_studies (id), 
	FOREIGN KEY(worker_id) REFERENCES explorer_workers (id)
);
INSERT INTO "explorer_plans" VALUES(1,1,'80cfa39ff45f42a99003','{"period": 1, "width": 0, "order": 0, "steps": 50, "name": "plain@50"}','{"period": 1}','plain@50','baseline','plain@50','[]','done',NULL,0,1,1.79524576722019743916e+09,1.79524576724546551702e+09);
INSERT INTO "explorer_plans" VALUES(2,1,'12dabdfbd5a082b89080','{"period": 1, "width": 0, "order": 0, "steps": 20, "name": "plain@20"}','null','plain@20','baseline','plain@20','[]','done',NULL,1,1,1.79524576725689864156e+09,1.79524576726568746562e+09);
INSERT INTO "explorer_plans" VALUES(3,1,'c67e4a0341dc3fdf3a92','{"period": 5, "width": 9, "order": 0, "steps": 50, "name": "DC0/P5"}','{"period": 5, "width": 9, "order": 0}','DC0/P5','baseline','DC0/P5','[]','done',NULL,2,1,1.79524576727294135096e+09,1.79524576728417110437e+09);
INSERT INTO "explorer_plans" VALUES(4,1,'3d894273e26cb2c5337f','{"period": 3, "width": 4, "order": 0, "steps": 50, "name": "broken"}','{"period": 3, "width": 4, "order": 0}','broken','baseline','broken','[]','failed','width 4 cannot be scored',3,1,1.79524576729149031636e+09,1.79524576730535650255e+09);
INSERT INTO "explorer_plans" VALUES(5,1,'13ef7574356258ef1bf7','{"period": 8, "width": 7, "order": 2, "steps": 50, "name": null}','{"period": 8, "width": 7, "order": 2}','7 parts every 8','search',NULL,'[]','done',NULL,4,1,1.7952457673419761658e+09,1.79524576734740924839e+09);
INSERT INTO "explorer_plans" VALUES(6,1,'89cdcc51b1842bfa48f7','{"period": 7, "width": 2, "order": 2, "steps": 50, "name": null}','{"period": 7, "width": 2, "order": 2}','2 parts every 7','search',NULL,'[]','done',NULL,5,1,1.7952457673668880463e+09,1.79524576737751221655e+09);
INSERT INTO "explorer_plans" VALUES(7,1,'ed5e8d498c8758cf097b','{"period": 3, "width": 1, "order": 0, "steps": 50, "name": null}','{"period": 3, "width": 1, "order": 0}','1 parts every 3','search',NULL,'[]','done',NULL,7,1,1.79524576743005084998e+09,1.79524576743463635444e+09);
INSERT INTO "explorer_plans" VALUES(8,1,'48b7119a9d8eb2baf980','{"period": 4, "width": 3, "order": 1, "steps": 50, "name": null}','{"period": 4, "width": 3, "order": 1}','3 parts every 4','search',NULL,'[]','done',NULL,8,1,1.79524576745632696156e+09,1.79524576746102404595e+09);
INSERT INTO "explorer_plans" VALUES(9,1,'3f7ecba053df19cae685','{"period": 8, "width": 6, "order": 2, "steps": 50, "name": null}','{"period": 8, "width": 6, "order": 2}','6 parts every 8','search',NULL,'[]','done',NULL,9,1,1.79524576747994232175e+09,1.79524576748459625246e+09);
INSERT INTO "explorer_plans" VALUES(10,1,'69e0a490cba9394ed30c','{"period": 3, "width": 8, "order": 0, "steps": 50, "name": null}','{"period": 3, "width": 8, "order": 0}','8 parts every 3','search',NULL,'[]','done',NULL,10,1,1.79524576750287485123e+09,1.79524576750945234291e+09);
INSERT INTO "explorer_plans" VALUES(11,1,'36d7cb13a0ef7a81b94b','{"period": 8, "width": 9, "order": 1, "steps": 50, "name": "DC1/P8"}','{"period": 8, "width": 9, "order": 1}','DC1/P8','baseline','DC1/P8','[]','waiting',NULL,NULL,NULL,NULL,NULL);
CREATE TABLE explorer_schema (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT explorer_schema_pkc PRIMARY KEY (version_num)
);
INSERT INTO "explorer_schema" VALUES('0001');
CREATE TABLE explorer_studies (
	id INTEGER NOT NULL, 
	name VARCHAR(100) NOT NULL, 
	settings JSON NOT NULL, 
	created DOUBLE NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (name)
);
INSERT INTO "explorer_studies" VALUES(1,'older','{"model": "toy", "architecture": "toy-8", "device": "cpu", "dtype": "float32", "resolution": [64, 64], "steps": 50, "scheduler": "PNDMScheduler", "space": "toy", "objectives": [{"name": "latency", "direction": "minimize"}, {"name": "fd_toy", "direction": "minimize"}, {"name": "clip", "direction": "maximize"}], "prompts": "toy prompts", "prompts_hash": "0000000000000000000000000000000000000000000000000000000000000000", "sampler": {"name": "random", "arguments": {}, "seed": 3}, "guidance": 7.5, "batch": 1, "seed": 0, "compile": false, "extractor": null, "reference": null, "extra": {}}',1.79524576686769628524e+09);
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
INSERT INTO "explorer_workers" VALUES(1,1,0,'vm pid:[4026531836]',6516,1795245765.27,1.79524576751859807973e+09,'stopped',1);
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
INSERT INTO "trial_params" VALUES(1,1,'period',1.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 1, "high": 8}}');
INSERT INTO "trial_params" VALUES(2,3,'period',5.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 1, "high": 8}}');
INSERT INTO "trial_params" VALUES(3,3,'width',9.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 1, "high": 9}}');
INSERT INTO "trial_params" VALUES(4,3,'order',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [0, 1, 2]}}');
INSERT INTO "trial_params" VALUES(5,4,'period',3.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 1, "high": 8}}');
INSERT INTO "trial_params" VALUES(6,4,'width',4.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 1, "high": 9}}');
INSERT INTO "trial_params" VALUES(7,4,'order',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [0, 1, 2]}}');
INSERT INTO "trial_params" VALUES(8,5,'period',8.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 1, "high": 8}}');
INSERT INTO "trial_params" VALUES(9,5,'width',7.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 1, "high": 9}}');
INSERT INTO "trial_params" VALUES(10,5,'order',2.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [0, 1, 2]}}');
INSERT INTO "trial_params" VALUES(11,6,'period',7.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 1, "high": 8}}');
INSERT INTO "trial_params" VALUES(12,6,'width',2.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 1, "high": 9}}');
INSERT INTO "trial_params" VALUES(13,6,'order',2.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [0, 1, 2]}}');
INSERT INTO "trial_params" VALUES(14,7,'period',1.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 1, "high": 8}}');
INSERT INTO "trial_params" VALUES(15,8,'period',3.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 1, "high": 8}}');
INSERT INTO "trial_params" VALUES(16,8,'width',1.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 1, "high": 9}}');
INSERT INTO "trial_params" VALUES(17,8,'order',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [0, 1, 2]}}');
INSERT INTO "trial_params" VALUES(18,9,'period',4.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 1, "high": 8}}');
INSERT INTO "trial_params" VALUES(19,9,'width',3.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 1, "high": 9}}');
INSERT INTO "trial_params" VALUES(20,9,'order',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [0, 1, 2]}}');
INSERT INTO "trial_params" VALUES(21,10,'period',8.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 1, "high": 8}}');
INSERT INTO "trial_params" VALUES(22,10,'width',6.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 1, "high": 9}}');
INSERT INTO "trial_params" VALUES(23,10,'order',2.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [0, 1, 2]}}');
INSERT INTO "trial_params" VALUES(24,11,'period',3.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 1, "high": 8}}');
INSERT INTO "trial_params" VALUES(25,11,'width',8.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 1, "high": 9}}');
INSERT INTO "trial_params" VALUES(26,11,'order',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [0, 1, 2]}}');
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
INSERT INTO "trial_user_attributes" VALUES(1,1,'key','"80cfa39ff45f42a99003"');
INSERT INTO "trial_user_attributes" VALUES(2,1,'origin','"baseline"');
INSERT INTO "trial_user_attributes" VALUES(3,1,'name','"plain@50"');
INSERT INTO "trial_user_attributes" VALUES(4,1,'plan','"plain@50"');
INSERT INTO "trial_user_attributes" VALUES(5,1,'worker','1');
INSERT INTO "trial_user_attributes" VALUES(6,2,'key','"12dabdfbd5a082b89080"');
INSERT INTO "trial_user_attributes" VALUES(7,2,'origin','"baseline"');
INSERT INTO "trial_user_attributes" VALUES(8,2,'name','"plain@20"');
INSERT INTO "trial_user_attributes" VALUES(9,2,'plan','"plain@20"');
INSERT INTO "trial_user_attributes" VALUES(10,2,'worker','1');
INSERT INTO "trial_user_attributes" VALUES(11,3,'key','"c67e4a0341dc3fdf3a92"');
INSERT INTO "trial_user_attributes" VALUES(12,3,'origin','"baseline"');
INSERT INTO "trial_user_attributes" VALUES(13,3,'name','"DC0/P5"');
INSERT INTO "trial_user_attributes" VALUES(14,3,'plan','"DC0/P5"');
INSERT INTO "trial_user_attributes" VALUES(15,3,'worker','1');
INSERT INTO "trial_user_attributes" VALUES(16,4,'key','"3d894273e26cb2c5337f"');
INSERT INTO "trial_user_attributes" VALUES(17,4,'origin','"baseline"');
INSERT INTO "trial_user_attributes" VALUES(18,4,'name','"broken"');
INSERT INTO "trial_user_attributes" VALUES(19,4,'plan','"broken"');
INSERT INTO "trial_user_attributes" VALUES(20,4,'worker','1');
INSERT INTO "trial_user_attributes" VALUES(21,4,'reason','"width 4 cannot be scored"');
INSERT INTO "trial_user_attributes" VALUES(22,5,'worker','1');
INSERT INTO "trial_user_attributes" VALUES(23,5,'key','"13ef7574356258ef1bf7"');
INSERT INTO "trial_user_attributes" VALUES(24,5,'origin','"search"');
INSERT INTO "trial_user_attributes" VALUES(25,5,'name','null');
INSERT INTO "trial_user_attributes" VALUES(26,5,'plan','"7 parts every 8"');
INSERT INTO "trial_user_attributes" VALUES(27,6,'worker','1');
INSERT INTO "trial_user_attributes" VALUES(28,6,'key','"89cdcc51b1842bfa48f7"');
INSERT INTO "trial_user_attributes" VALUES(29,6,'origin','"search"');
INSERT INTO "trial_user_attributes" VALUES(30,6,'name','null');
INSERT INTO "trial_user_attributes" VALUES(31,6,'plan','"2 parts every 7"');
INSERT INTO "trial_user_attributes" VALUES(32,7,'worker','1');
INSERT INTO "trial_user_attributes" VALUES(33,7,'duplicate_of','0');
INSERT INTO "trial_user_attributes" VALUES(34,8,'worker','1');
INSERT INTO "trial_user_attributes" VALUES(35,8,'key','"ed5e8d498c8758cf097b"');
INSERT INTO "trial_user_attributes" VALUES(36,8,'origin','"search"');
INSERT INTO "trial_user_attributes" VALUES(37,8,'name','null');
INSERT INTO "trial_user_attributes" VALUES(38,8,'plan','"1 parts every 3"');
INSERT INTO "trial_user_attributes" VALUES(39,9,'worker','1');
INSERT INTO "trial_user_attributes" VALUES(40,9,'key','"48b7119a9d8eb2baf980"');
INSERT INTO "trial_user_attributes" VALUES(41,9,'origin','"search"');
INSERT INTO "trial_user_attributes" VALUES(42,9,'name','null');
INSERT INTO "trial_user_attributes" VALUES(43,9,'plan','"3 parts every 4"');
INSERT INTO "trial_user_attributes" VALUES(44,10,'worker','1');
INSERT INTO "trial_user_attributes" VALUES(45,10,'key','"3f7ecba053df19cae685"');
INSERT INTO "trial_user_attributes" VALUES(46,10,'origin','"search"');
INSERT INTO "trial_user_attributes" VALUES(47,10,'name','null');
INSERT INTO "trial_user_attributes" VALUES(48,10,'plan','"6 parts every 8"');
INSERT INTO "trial_user_attributes" VALUES(49,11,'worker','1');
INSERT INTO "trial_user_attributes" VALUES(50,11,'key','"69e0a490cba9394ed30c"');
INSERT INTO "trial_user_attributes" VALUES(51,11,'origin','"search"');
INSERT INTO "trial_user_attributes" VALUES(52,11,'name','null');
INSERT INTO "trial_user_attributes" VALUES(53,11,'plan','"8 parts every 3"');
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
INSERT INTO "trial_values" VALUES(1,1,0,1.0,'FINITE');
INSERT INTO "trial_values" VALUES(2,1,1,0.0,'FINITE');
INSERT INTO "trial_values" VALUES(3,1,2,30.0,'FINITE');
INSERT INTO "trial_values" VALUES(4,2,0,0.4,'FINITE');
INSERT INTO "trial_values" VALUES(5,2,1,0.6,'FINITE');
INSERT INTO "trial_values" VALUES(6,2,2,29.4,'FINITE');
INSERT INTO "trial_values" VALUES(7,3,0,0.28,'FINITE');
INSERT INTO "trial_values" VALUES(8,3,1,4.32,'FINITE');
INSERT INTO "trial_values" VALUES(9,3,2,25.68,'FINITE');
INSERT INTO "trial_values" VALUES(10,5,0,3.87499999999999955591e-01,'FINITE');
INSERT INTO "trial_values" VALUES(11,5,1,5.5125,'FINITE');
INSERT INTO "trial_values" VALUES(12,5,2,24.4875,'FINITE');
INSERT INTO "trial_values" VALUES(13,6,0,8.28571428571428514331e-01,'FINITE');
INSERT INTO "trial_values" VALUES(14,6,1,1.37142857142857144125e+00,'FINITE');
INSERT INTO "trial_values" VALUES(15,6,2,2.8628571428571429891e+01,'FINITE');
INSERT INTO "trial_values" VALUES(16,7,0,1.0,'FINITE');
INSERT INTO "trial_values" VALUES(17,7,1,0.0,'FINITE');
INSERT INTO "trial_values" VALUES(18,7,2,30.0,'FINITE');
INSERT INTO "trial_values" VALUES(19,8,0,9.33333333333333348136e-01,'FINITE');
INSERT INTO "trial_values" VALUES(20,8,1,2.66666666666666718477e-01,'FINITE');
INSERT INTO "trial_values" VALUES(21,8,2,2.97333333333333342807e+01,'FINITE');
INSERT INTO "trial_values" VALUES(22,9,0,0.775,'FINITE');
INSERT INTO "trial_values" VALUES(23,9,1,0.9,'FINITE');
INSERT INTO "trial_values" VALUES(24,9,2,29.1,'FINITE');
INSERT INTO "trial_values" VALUES(25,10,0,0.475,'FINITE');
INSERT INTO "trial_values" VALUES(26,10,1,4.7250000000000005329e+00,'FINITE');
INSERT INTO "trial_values" VALUES(27,10,2,25.275,'FINITE');
INSERT INTO "trial_values" VALUES(28,11,0,4.66666666666666563045e-01,'FINITE');
INSERT INTO "trial_values" VALUES(29,11,1,2.13333333333333374781e+00,'FINITE');
INSERT INTO "trial_values" VALUES(30,11,2,2.78666666666666671412e+01,'FINITE');
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
INSERT INTO "trials" VALUES(1,0,1,'COMPLETE','2026-11-21 07:22:47.221047','2026-11-21 07:22:47.253312');
INSERT INTO "trials" VALUES(2,1,1,'COMPLETE','2026-11-21 07:22:47.257305','2026-11-21 07:22:47.269790');
INSERT INTO "trials" VALUES(3,2,1,'COMPLETE','2026-11-21 07:22:47.273459','2026-11-21 07:22:47.288387');
INSERT INTO "trials" VALUES(4,3,1,'FAIL','2026-11-21 07:22:47.291971','2026-11-21 07:22:47.309435');
INSERT INTO "trials" VALUES(5,4,1,'COMPLETE','2026-11-21 07:22:47.323995','2026-11-21 07:22:47.352001');
INSERT INTO "trials" VALUES(6,5,1,'COMPLETE','2026-11-21 07:22:47.359706','2026-11-21 07:22:47.382450');
INSERT INTO "trials" VALUES(7,6,1,'COMPLETE','2026-11-21 07:22:47.393788','2026-11-21 07:22:47.409855');
INSERT INTO "trials" VALUES(8,7,1,'COMPLETE','2026-11-21 07:22:47.422485','2026-11-21 07:22:47.439046');
INSERT INTO "trials" VALUES(9,8,1,'COMPLETE','2026-11-21 07:22:47.446427','2026-11-21 07:22:47.465681');
INSERT INTO "trials" VALUES(10,9,1,'COMPLETE','2026-11-21 07:22:47.472754','2026-11-21 07:22:47.489087');
INSERT INTO "trials" VALUES(11,10,1,'COMPLETE','2026-11-21 07:22:47.495898','2026-11-21 07:22:47.514701');
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
